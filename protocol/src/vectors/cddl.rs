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
    include_str!("../../../tests/vectors/missing-messages.txt"),
    include_str!("../../../tests/vectors/bill-messages.txt"),
    include_str!("../../../tests/vectors/money-messages.txt"),
    include_str!("../../../tests/vectors/max-price.txt"),
];
/// Requests and how many there are; what a fixture of a response begins with, and what its rule does.
const PROTOCOLS: [(&str, usize, &str, &str); 3] = [
    ("mediate-request", 23, "mediate-response ", "mediate-"),
    ("shard-request", 16, "shard-response ", "shard-"),
    ("pay-request", 3, "pay-response ", "pay-"),
];

/// Rule and CBOR header of each frame in the fixtures.
fn messages() -> Vec<(String, Vec<u8>)> {
    let lines = FIXTURES.iter().flat_map(|fixture| fixture.lines());
    let framed = lines.filter_map(|line| line.rsplit_once(' ')).filter_map(|(kind, text)| {
        let rule = PROTOCOLS.iter().find_map(|(request, _, response, prefix)| {
            let answered = kind.strip_prefix(response).map(|request| format!("{prefix}{request}"));
            answered.or_else(|| (kind == *request).then(|| kind.to_owned()))
        })?;
        Some((rule, text))
    });
    framed
        .map(|(rule, text)| {
            let frame = hex::decode(text).expect("hexadecimal");
            let (length, rest) = frame.split_first_chunk().expect("a length");
            (rule, rest[..u32::from_le_bytes(*length) as usize].to_vec())
        })
        .collect()
}

/// The names of a rule's alternatives, each a map of one entry.
fn alternatives(rule: &str) -> BTreeSet<String> {
    let start = SPECIFICATION.find(&format!("\n{rule} =")).expect("the rule") + 1;
    let text = SPECIFICATION[start..].split("\n\n").next().expect("its text");
    let names = text.lines().filter_map(|line| line.strip_prefix("    { \"")?.split_once('"'));
    names.map(|(name, _)| name.to_owned()).collect()
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
fn every_request_of_the_cddl_has_a_fixture_and_one_of_what_answers_it() {
    for (requests, many, _, prefix) in PROTOCOLS {
        let named = alternatives(requests);
        assert_eq!(named.len(), many, "{requests}: {named:?}");
        let messages = messages();
        let shown: BTreeSet<String> =
            messages.iter().filter(|(rule, _)| rule == requests).map(|(_, header)| variant(header)).collect();
        assert_eq!(named, shown, "{requests}");
        let carried_out = messages.iter().filter(|(_, header)| variant(header) == "ok");
        let answered: BTreeSet<String> =
            carried_out.filter_map(|(rule, _)| Some(rule.strip_prefix(prefix)?.to_owned())).collect();
        assert_eq!(named, answered, "responses of {prefix}");
    }
}

#[test]
fn a_message_of_another_form_is_not_what_the_cddl_says() {
    let (rule, put) =
        messages().into_iter().find(|(_, header)| variant(header) == "put_shard").expect("a put");
    let at = put.windows(5).position(|window| window == b"index").expect("an index") + 5;
    let mut text_for_a_number = put.clone();
    text_for_a_number[at] = 0x60;
    let mut beyond_the_last_shard = put;
    beyond_the_last_shard.splice(at..=at, [0x18, 30]);
    for bad in [text_for_a_number, beyond_the_last_shard] {
        assert!(validate_cbor_bytes(&rule, SPECIFICATION, &bad).is_err(), "{bad:02x?}");
    }
}
