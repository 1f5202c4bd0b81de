//! Fixtures of the byte formats. A format that changes breaks its fixture.
//!
//! For the unit tests of this workspace only: the files lie beside this crate's manifest.

use std::path::PathBuf;

/// Compares `text` with the fixture `name`, white space aside. With `FINCRYPT_BLESS` set a missing
/// fixture is written; an existing one is never changed.
///
/// # Panics
/// If the fixture is missing or differs; the first difference is named.
pub fn check(name: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name);
    if std::env::var_os("FINCRYPT_BLESS").is_some() && !path.exists() {
        std::fs::write(&path, text).unwrap_or_else(|error| panic!("cannot write {name}: {error}"));
    }
    let read = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("cannot read {name}: {error}"));
    let (fixture, text) = (dense(&read), dense(text));
    let common = fixture.bytes().zip(text.bytes()).take_while(|(a, b)| a == b).count();
    assert!(fixture == text, "{name} differs from its fixture after {common} characters");
}

/// The text without white space, which only helps to read a fixture.
fn dense(text: &str) -> String {
    text.split_whitespace().collect()
}

/// Bytes as lines of 64 hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.chunks(32).map(|line| hex::encode(line) + "\n").collect()
}
