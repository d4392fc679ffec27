/// Which of several names of one function is shown: the smallest.
///
/// Fewest leading underscores (`poll` before `__poll` and `__GI___poll`), then as the linker
/// ranks them, then the shortest, then the first: always the same one.
pub(super) fn preference(name: &[u8], binding: u8) -> (usize, u8, usize, &[u8]) {
    let underscores = name.iter().take_while(|&&byte| byte == b'_').count();
    // `_Z` and `_R` begin a mangled name, they are no underscores of its author.
    let mangled = underscores == 1 && matches!(name.get(1), Some(b'Z' | b'R'));
    (if mangled { 0 } else { underscores }, binding, name.len(), name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_names_come_first() {
        let best = |names: &[(&'static str, u8)]| {
            let best =
                names.iter().min_by_key(|(name, binding)| preference(name.as_bytes(), *binding));
            best.map(|(name, _)| *name)
        };
        assert_eq!(best(&[("__poll", 0), ("poll", 1), ("__GI___poll", 2)]), Some("poll"));
        assert_eq!(best(&[("a_long_name", 0), ("short", 2)]), Some("a_long_name"));
        assert_eq!(best(&[("_stext", 0), ("_text", 0), ("startup", 0)]), Some("startup"));
        assert_eq!(best(&[("_ZN1AC2Ev", 1), ("_ZN1AC1Ev", 1)]), Some("_ZN1AC1Ev"));
    }
}
