//! Fixtures of the byte formats, in `tests/vectors`. A format that changes breaks its fixture.

use std::path::PathBuf;

/// Compares with the fixture `name`. With `FINCRYPT_BLESS` set it is written instead: only for a
/// new format, never to silence a change of an old one.
pub(crate) fn check(name: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors").join(name);
    if std::env::var_os("FINCRYPT_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("the folder is made");
        std::fs::write(&path, text).expect("the fixture is written");
    }
    let fixture = std::fs::read_to_string(&path).expect("the fixture is there");
    assert!(
        fixture == text,
        "{name} differs from its fixture; first difference at byte {:?}",
        fixture.bytes().zip(text.bytes()).position(|(a, b)| a != b)
    );
}

/// Bytes as lines of hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let line = |line: &[u8]| line.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n";
    bytes.chunks(32).map(line).collect()
}
