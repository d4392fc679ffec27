//! The colours of an off-wake graph: sleepers blue, wakers orange, kernel frames darker than user
//! frames, threads lightest. Black text is legible on all of them, and the two hues are told apart
//! by people who do not see red or green.

use inferno::flamegraph::color::Color;

use super::stacks::Role;

/// The background, from top to bottom.
pub(super) const BACKGROUND: Color = rgb(0xff, 0xff, 0xff);

/// The frame of everything.
pub(super) const ROOT: Color = rgb(0xe4, 0xe4, 0xe4);

/// How much the lightness of frames with the same role varies, so that neighbours are told apart.
const VARIATION: u64 = 18;

/// The colour of a frame: its role's, in a shade that depends on nothing but its name. `None` for
/// delimiters, which inferno paints grey.
pub(super) fn color(role: Role, name: &str) -> Option<Color> {
    let base = match role {
        Role::SleeperThread => rgb(0xc4, 0xdf, 0xf8),
        Role::SleeperUser => rgb(0x9c, 0xc8, 0xf2),
        Role::SleeperKernel => rgb(0x62, 0x9f, 0xdb),
        Role::Delimiter => return None,
        Role::WakerKernel => rgb(0xef, 0x96, 0x4a),
        Role::WakerUser => rgb(0xfb, 0xc5, 0x82),
        Role::WakerThread => rgb(0xfd, 0xdf, 0xb6),
        Role::Interrupt => rgb(0xc3, 0xa2, 0xe0),
        Role::Preempted => rgb(0x9f, 0xd4, 0x96),
        Role::NoWaker => rgb(0xd8, 0xd2, 0xc6),
    };
    let shade = (hash(name) % VARIATION) as u8;
    let darken = |value: u8| value - shade;
    Some(rgb(darken(base.r), darken(base.g), darken(base.b)))
}

const fn rgb(r: u8, g: u8, b: u8) -> Color {
    Color { r, g, b }
}

/// FNV-1a: the same on every machine and in every version.
fn hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
