//! The colours of an off-wake graph: sleepers blue, wakers orange, kernel frames darker than user
//! frames, threads lightest. Black text is legible on all of them, and the two hues are told apart
//! by people who do not see red or green.

use inferno::flamegraph::color::Color;

use super::stacks::Role;

/// The background, from top to bottom.
pub(super) const BACKGROUND: Color = rgb(0xff, 0xff, 0xff);

/// The frame of everything.
pub(super) const ROOT_RGB: [u8; 3] = [0xe4, 0xe4, 0xe4];
pub(super) const ROOT: Color = rgb(ROOT_RGB[0], ROOT_RGB[1], ROOT_RGB[2]);

/// How much the lightness of frames with the same role varies, so that neighbours are told apart.
const VARIATION: u64 = 18;

/// The colour of a frame: its role's, in a shade that depends on nothing but its name. `None` for
/// delimiters, which inferno paints grey.
pub(super) fn color(role: Role, name: &str) -> Option<Color> {
    if role == Role::Delimiter {
        return None;
    }
    let [r, g, b] = base(role);
    let shade = (hash(name) % VARIATION) as u8;
    Some(rgb(r - shade, g - shade, b - shade))
}

/// The colour of a role: red, green, blue. A name's shade is at most [`VARIATION`] darker.
pub(super) const fn base(role: Role) -> [u8; 3] {
    match role {
        Role::SleeperThread => [0xc4, 0xdf, 0xf8],
        Role::SleeperUser => [0x9c, 0xc8, 0xf2],
        Role::SleeperKernel => [0x62, 0x9f, 0xdb],
        Role::Delimiter => [0xa0, 0xa0, 0xa0],
        Role::WakerKernel => [0xef, 0x96, 0x4a],
        Role::WakerUser => [0xfb, 0xc5, 0x82],
        Role::WakerThread => [0xfd, 0xdf, 0xb6],
        Role::Interrupt => [0xc3, 0xa2, 0xe0],
        Role::Preempted => [0x9f, 0xd4, 0x96],
        Role::NoWaker => [0xd8, 0xd2, 0xc6],
    }
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
