//! Compares encodings with the fixtures in `tests/vectors`.

/// Fails, and prints what was encoded, if it is not what the fixture says.
pub(crate) fn check(name: &str, encoded: &[u8], fixture: &str) {
    let hex: String = encoded.iter().map(|byte| format!("{byte:02x}")).collect();
    let expected: String = fixture.split_whitespace().collect();
    assert_eq!(hex, expected, "the format {name} changed");
}
