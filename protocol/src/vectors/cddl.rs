//! The fixtures of messages against the specification's CDDL, so that neither can change alone.

use std::collections::BTreeSet;

use cddl_cat::validate_cbor_bytes;

const SPECIFICATION: &str = include_str!("../../../docs/spec/messages.cddl");
const FIXTURES: [&str; 10] = [
    include_str!("../../../tests/vectors/messages.txt"),
    include_str!("../../../tests/vectors/release-messages.txt"),
    include_str!("../../../tests/vectors/rewind-messages.txt"),
    include_str!("../../../tests/vectors/adopt-messages.txt"),
    include_str!("../../../tests/vectors/adopt-statements.txt"),
    include_str!("../../../tests/vectors/challenge-messages.txt"),
    include_str!("../../../tests/vectors/doubt-messages.txt"),
    include_str!("../../../tests/vectors/bill-messages.txt"),
    include_str!("../../../tests/vectors/money-messages.txt"),
    include_str!("../../../tests/vectors/max-price.txt"),
];
const RULES: [&str; 4] = ["mediate-request", "mediate-response", "shard-request", "shard-response"];

/// Rule and CBOR header of each frame in the fixtures.
fn messages() -> Vec<(String, Vec<u8>)> {
    let lines = FIXTURES.iter().flat_map(|fixture| fixture.lines());
    let framed = lines.filter_map(|line| line.split_once(' ')).filter(|(rule, _)| RULES.contains(rule));
    framed
        .map(|(rule, text)| {
            let frame = hex::decode(text).expect("hexadecimal");
            let (length, rest) = frame.split_first_chunk().expect("a length");
            (rule.to_owned(), rest[..u32::from_le_bytes(*length) as usize].to_vec())
        })
        .collect()
}

/// The names of a rule's alternatives: the first text of each.
fn alternatives(rule: &str) -> BTreeSet<String> {
    let start = SPECIFICATION.find(&format!("\n{rule} =")).expect("the rule") + 1;
    let text = SPECIFICATION[start..].split("\n\n").next().expect("its text");
    let code: String = text.lines().skip(1).map(|line| line.split(';').next().unwrap_or_default()).collect();
    let mut depth = 0;
    let mut names = BTreeSet::new();
    for (at, character) in code.char_indices() {
        let named = |from: usize| code[from..].split('"').nth(1).map(str::to_owned);
        match character {
            '{' | '[' => {
                depth += 1;
                if depth == 1 {
                    names.extend(named(at));
                }
            }
            '}' | ']' => depth -= 1,
            '"' if depth == 0 && code[..at].trim_end().ends_with('/') => names.extend(named(at)),
            '"' if depth == 0 && code[..at].trim().is_empty() => names.extend(named(at)),
            _ => {}
        }
    }
    names
}

/// The variant that a header is: its text, or the one key of its map.
fn variant(header: &[u8]) -> String {
    match crate::cbor::decode::<serde_cbor::Value>(header, header.len()).expect("CBOR") {
        serde_cbor::Value::Text(name) => name,
        serde_cbor::Value::Map(map) => match map.into_keys().next() {
            Some(serde_cbor::Value::Text(name)) => name,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_fixture_of_a_message_is_what_the_cddl_says() {
    let messages = messages();
    assert!(messages.len() > 80, "{} fixtures", messages.len());
    for (rule, header) in messages {
        let valid = validate_cbor_bytes(&rule, SPECIFICATION, &header);
        assert!(valid.is_ok(), "{rule} {}: {valid:?}", variant(&header));
    }
}

#[test]
fn every_message_of_the_cddl_has_a_fixture() {
    for rule in RULES {
        let named = alternatives(rule);
        assert!(named.len() > 10, "{rule}: {named:?}");
        let shown: BTreeSet<String> =
            messages().iter().filter(|(of, _)| of == rule).map(|(_, header)| variant(header)).collect();
        assert_eq!(named, shown, "{rule}");
    }
}

#[test]
fn a_message_of_another_form_is_not_what_the_cddl_says() {
    let (rule, put) = messages().into_iter().find(|(_, header)| variant(header) == "put").expect("a put");
    let at = put.windows(5).position(|window| window == b"index").expect("an index") + 5;
    let mut text_for_a_number = put.clone();
    text_for_a_number[at] = 0x60;
    let mut beyond_the_last_shard = put;
    beyond_the_last_shard.splice(at..=at, [0x18, 30]);
    for bad in [text_for_a_number, beyond_the_last_shard] {
        assert!(validate_cbor_bytes(&rule, SPECIFICATION, &bad).is_err(), "{bad:02x?}");
    }
}
