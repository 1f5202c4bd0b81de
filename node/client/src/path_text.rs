//! Paths for people.

/// A path as text; bytes that are none are shown as `\xNN`.
pub(crate) fn path_text(path: &[u8]) -> String {
    let chunk = |chunk: std::str::Utf8Chunk<'_>| {
        let invalid = chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}"));
        std::iter::once(chunk.valid().to_owned()).chain(invalid).collect::<String>()
    };
    path.utf8_chunks().map(chunk).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_text_are_shown_as_such() {
        assert_eq!(path_text(b"a\xff\xfe/\xc3\xa4"), "a\\xff\\xfe/\u{e4}");
    }
}
