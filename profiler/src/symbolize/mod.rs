//! Symbolization: names for the addresses of a recording.

use hashbrown::HashMap;

use crate::profile::{Frame, FrameId};
use crate::recording::StackId;

/// The names of everything in a recording.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Symbols {
    /// Every distinct frame, once.
    pub frames: Vec<Frame>,
    /// The frames of each stack of the recording, innermost first.
    pub stacks: HashMap<StackId, Vec<FrameId>>,
}
