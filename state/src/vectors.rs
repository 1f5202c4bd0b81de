//! Fixtures of the byte formats, in `tests/vectors`. A format that changes breaks its fixture.

use std::path::PathBuf;

/// Compares with the fixture `name`. With `FINCRYPT_BLESS` set one that is missing is written; one
/// that is there is never changed.
pub(crate) fn check(name: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors").join(name);
    if std::env::var_os("FINCRYPT_BLESS").is_some() && !path.exists() {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("the folder is made");
        std::fs::write(&path, text).expect("the fixture is written");
    }
    let read = std::fs::read_to_string(&path).expect("the fixture is there");
    let (fixture, text) = (words(&read), words(text));
    assert!(
        fixture == text,
        "{name} differs from its fixture; first difference at byte {:?}",
        fixture.bytes().zip(text.bytes()).position(|(a, b)| a != b)
    );
}

/// The text without the white space that only helps to read it.
fn words(text: &str) -> String {
    text.split_whitespace().collect()
}

/// Bytes as lines of hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let line = |line: &[u8]| line.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n";
    bytes.chunks(32).map(line).collect()
}
