//! The names of unix sockets.

use offwake_shared::SOURCE_NAME_LEN;

/// The name in the first `len` bytes, as the kernel keeps it; `None`: it has none.
///
/// A path ends with its first 0; an abstract name begins with one, which is shown as `@`, and may have more.
pub(crate) fn unix_name(bytes: &[u8; SOURCE_NAME_LEN], len: u32) -> Option<String> {
    match &bytes[..bytes.len().min(len as usize)] {
        [] => None,
        [0, name @ ..] => Some(format!("@{}", String::from_utf8_lossy(name).replace('\0', "@"))),
        path => {
            let path = path.split(|byte| *byte == 0).next().unwrap_or_default();
            Some(String::from_utf8_lossy(path).into_owned())
        }
    }
}
