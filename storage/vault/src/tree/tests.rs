use super::*;
use crate::blob::BlobId;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

pub(crate) fn node(name: &[u8], kind: NodeKind) -> Node {
    Node {
        name: Name::new(name).expect("valid name"),
        mode: 0o644,
        mtime: Mtime { secs: 1_700_000_000, nanos: 5 },
        xattrs: vec![],
        kind,
    }
}

fn id(byte: u8) -> BlobId {
    BlobId::from_bytes([byte; 32])
}

fn file(size: u64, content: Content) -> Node {
    node(b"file", NodeKind::File { size, link: None, content })
}

fn piece() -> impl Strategy<Value = Piece> {
    prop_oneof![
        (any::<[u8; 32]>(), 1u32..)
            .prop_map(|(blob, len)| Piece::Data { blob: BlobId::from_bytes(blob), len }),
        (1u64..1 << 40).prop_map(Piece::Hole),
    ]
}

fn kind() -> impl Strategy<Value = NodeKind> {
    let ids = vec(any::<[u8; 32]>().prop_map(BlobId::from_bytes), 1..4);
    prop_oneof![
        (vec(piece(), 0..5), any::<Option<u64>>()).prop_map(|(pieces, link)| NodeKind::File {
            size: total_len(&pieces).expect("small"),
            link,
            content: Content::Inline(pieces),
        }),
        (ids.clone(), any::<u64>(), any::<Option<u64>>()).prop_map(|(ids, size, link)| NodeKind::File {
            size,
            link,
            content: Content::Lists(ids)
        }),
        ids.prop_map(|tree| NodeKind::Dir { tree }),
        vec(1u8.., 1..60).prop_map(|target| NodeKind::Symlink { target }),
    ]
}

/// Up to `most` valid nodes in order.
pub(crate) fn nodes(most: usize) -> impl Strategy<Value = Vec<Node>> {
    let xattrs = btree_map(vec(1u8.., 1..9), vec(any::<u8>(), 0..9), 0..3);
    let rest = (0u32..0o10000, any::<i64>(), 0u32..1_000_000_000, xattrs, kind());
    btree_map(vec(b'0'..b'z', 1..20), rest, 0..most).prop_map(|map| {
        map.into_iter()
            .map(|(name, (mode, secs, nanos, xattrs, kind))| Node {
                name: Name::new(name).expect("no slash alone is longer than dots"),
                mode,
                mtime: Mtime { secs, nanos },
                xattrs: xattrs.into_iter().collect(),
                kind,
            })
            .collect()
    })
}

proptest! {
    #[test]
    fn trees_round_trip(nodes in nodes(20)) {
        let bytes = encode_tree(&nodes)?;
        prop_assert_eq!(decode_tree(&bytes)?, nodes);
    }

    #[test]
    fn lists_round_trip(pieces in vec(piece(), 0..50)) {
        prop_assert_eq!(decode_list(&encode_list(&pieces)?)?, pieces);
    }

    #[test]
    fn any_bytes_are_decoded_or_refused(bytes: Vec<u8>) {
        let _ = decode_tree(&bytes);
        let _ = decode_list(&bytes);
    }

    #[test]
    fn a_damaged_tree_is_decoded_or_refused(nodes in nodes(5), at: prop::sample::Index, xor in 1u8..) {
        let mut bytes = encode_tree(&nodes)?;
        let at = at.index(bytes.len());
        bytes[at] ^= xor;
        let _ = decode_tree(&bytes);
    }
}

fn refusal(node: Node) -> FieldError {
    match encode_tree(&[node]) {
        Err(TreeError::Node { source, .. }) => source,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn fields_out_of_bounds_are_refused() {
    let inline = |pieces| Content::Inline(pieces);
    let data = Piece::Data { blob: id(1), len: 9 };
    assert_eq!(refusal(file(10, inline(vec![data]))), FieldError::Size { size: 10 });
    assert_eq!(refusal(file(9, inline(vec![data, Piece::Hole(0)]))), FieldError::EmptyPiece);
    assert_eq!(refusal(file(9, Content::Lists(vec![]))), FieldError::Size { size: 9 });
    let wraps = inline(vec![Piece::Hole(u64::MAX), Piece::Hole(1)]);
    assert_eq!(refusal(file(0, wraps)), FieldError::Size { size: 0 });
    assert_eq!(refusal(file(9225, inline(vec![data; 1025]))), FieldError::TooMany(1025));
    let valid = file(9, inline(vec![data]));
    assert_eq!(refusal(Node { mode: 0o10000, ..valid.clone() }), FieldError::Mode(0o10000));
    let mtime = Mtime { secs: 0, nanos: 1_000_000_000 };
    assert_eq!(refusal(Node { mtime, ..valid.clone() }), FieldError::Nanoseconds(1_000_000_000));
    let xattrs = vec![(b"b".to_vec(), vec![]), (b"a".to_vec(), vec![])];
    assert_eq!(refusal(Node { xattrs, ..valid }), FieldError::Xattrs);
    for target in [&b""[..], b"a\0b", &[b'a'; 4097]] {
        assert_eq!(refusal(node(b"l", NodeKind::Symlink { target: target.to_vec() })), FieldError::Target);
    }
}

#[test]
fn names_out_of_order_or_repeated_are_refused() {
    let dir = |name: &[u8]| node(name, NodeKind::Dir { tree: vec![] });
    for nodes in [[dir(b"b"), dir(b"a")], [dir(b"a"), dir(b"a")]] {
        assert!(matches!(encode_tree(&nodes), Err(TreeError::Order { .. })));
        let bytes = fincrypt_protocol::cbor::encode(&nodes).expect("encodes");
        assert!(matches!(decode_tree(&bytes), Err(TreeError::Order { .. })));
    }
    let last = Name::new("m").expect("valid");
    assert!(check_order(Some(&last), &[dir(b"n")]).is_ok());
    assert!(check_order(Some(&last), &[dir(b"m")]).is_err());
}

#[test]
fn a_name_that_leads_elsewhere_is_refused_when_decoding() {
    let bytes = encode_tree(&[node(b"ab", NodeKind::Dir { tree: vec![] })]).expect("encodes");
    let at = bytes.windows(2).position(|pair| pair == b"ab").expect("the name");
    for hostile in [b"..", b"a/", b"a\0"] {
        let mut bytes = bytes.clone();
        bytes[at..at + 2].copy_from_slice(hostile);
        assert!(decode_tree(&bytes).is_err());
    }
}

#[test]
fn an_unknown_kind_is_refused() {
    let mut bytes = encode_tree(&[node(b"n", NodeKind::Dir { tree: vec![] })]).expect("encodes");
    let at = bytes.windows(2).position(|pair| pair == b"ad").expect("kind d, a text of one byte");
    bytes[at + 1] = b'q';
    assert!(decode_tree(&bytes).is_err());
}

#[test]
fn many_pieces_go_to_lists() {
    let pieces = vec![Piece::Hole(1); MAX_LIST_PIECES + 1];
    let mut lists = Vec::new();
    let content = content_from(pieces, |part| {
        lists.push(encode_list(part)?.len());
        Ok::<_, TreeError>(id(lists.len() as u8))
    });
    assert_eq!(content.expect("stores"), Content::Lists(vec![id(1), id(2)]));
    let few = content_from(vec![Piece::Hole(1); 1024], |_| Err(()));
    assert!(matches!(few, Ok(Content::Inline(_))));
}

/// One node of every kind.
pub(crate) fn sample() -> Vec<Node> {
    let pieces = vec![Piece::Data { blob: id(1), len: 4096 }, Piece::Hole(8192)];
    vec![
        node(b"a-file", NodeKind::File { size: 12_288, link: None, content: Content::Inline(pieces) }),
        Node {
            xattrs: vec![(b"user.k".to_vec(), b"v".to_vec())],
            ..node(
                b"b-big",
                NodeKind::File { size: 1 << 33, link: Some(7), content: Content::Lists(vec![id(2)]) },
            )
        },
        Node { mode: 0o1777, ..node(b"c-dir", NodeKind::Dir { tree: vec![id(3)] }) },
        Node {
            mtime: Mtime { secs: -1, nanos: 999_999_999 },
            ..node(b"d-link\xff", NodeKind::Symlink { target: b"../a-file".to_vec() })
        },
    ]
}

#[test]
fn the_formats_are_those_of_the_fixtures() {
    let tree = encode_tree(&sample()).expect("encodes");
    let list = encode_list(&[Piece::Data { blob: id(1), len: 65_536 }, Piece::Hole(1)]).expect("encodes");
    fincrypt_vectors::check("tree.hex", &fincrypt_vectors::hex(&tree));
    fincrypt_vectors::check("list.hex", &fincrypt_vectors::hex(&list));
}
