use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::path::Path;

use fincrypt_protocol::{Code, Redundancy, UnixTime};
use fincrypt_state::state::State;
use fincrypt_vault::Root;
use fincrypt_vault::blob::{BlobId, BlobKind};
use fincrypt_vault::scan::Scanner;
use fincrypt_vault::segment::{BlobAssembler, OpenSegment, SealedSegment};
use fincrypt_vault::snapshot::Snapshot;
use fincrypt_vault::tree::{Content, Node, NodeKind, Piece, decode_tree};
use zeroize::Zeroizing;

use super::{Counts, Pipeline, PipelineError};
use crate::progress::Progress;

fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut reader = blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof();
    let mut out = vec![0; length];
    reader.fill(&mut out);
    out
}

fn root() -> Root {
    Root::from_bytes(&Zeroizing::new([1; 32]))
}

fn pipeline(home: &Path, workers: usize) -> Pipeline {
    let (state, _) = State::open(&home.join("state")).expect("opens");
    Pipeline {
        root: root(),
        state,
        code: Code::new(3, 3).expect("valid"),
        redundancy: Redundancy::MIN,
        started: (UnixTime::from_secs(2_000_000_000), 5),
        host: "host".to_owned(),
        workers,
        progress: Progress::new("backed up", false),
    }
}

/// Runs a pipeline over `source`, with a state of its own.
fn run(source: &Path, workers: usize) -> (BlobId, Counts, Vec<SealedSegment>) {
    let home = tempfile::tempdir().expect("a folder");
    let scanner = Scanner::new(vec![source.to_owned()], &[]).expect("valid");
    let segments = Mutex::new(Vec::new());
    let sink = |segment: SealedSegment| {
        // A copy: the buffer is wanted back.
        let ciphertext = segment.ciphertext.to_vec().into();
        segments.lock().push(SealedSegment { ciphertext, ..segment });
        true
    };
    let (id, counts) = pipeline(home.path(), workers).run(&scanner, &sink).expect("runs");
    (id, counts, segments.into_inner())
}

/// All blobs of the segments; none may be there twice.
fn blobs(segments: &[SealedSegment]) -> HashMap<BlobId, (BlobKind, Vec<u8>)> {
    let mut assembler = BlobAssembler::new(root().blob_id_key()).expect("an assembler");
    let mut blobs = HashMap::new();
    for segment in segments {
        let open = OpenSegment::open(&root(), segment.ciphertext.to_vec()).expect("opens");
        for entry in open.directory().entries() {
            let extent = open.extent(entry).expect("checked");
            if let Some(plain) = assembler.add(entry, &extent).expect("fits") {
                assert!(blobs.insert(entry.blob, (entry.kind, plain)).is_none(), "a blob is stored twice");
            }
        }
    }
    assert_eq!(assembler.pending_bytes(), 0);
    blobs
}

fn nodes(blobs: &HashMap<BlobId, (BlobKind, Vec<u8>)>, tree: &[BlobId]) -> Vec<Node> {
    tree.iter().flat_map(|id| decode_tree(&blobs[id].1).expect("decodes")).collect()
}

/// What a file holds, by name.
fn files(blobs: &HashMap<BlobId, (BlobKind, Vec<u8>)>, tree: &[BlobId]) -> HashMap<Vec<u8>, Vec<u8>> {
    let mut files = HashMap::new();
    for node in nodes(blobs, tree) {
        match &node.kind {
            NodeKind::Dir { tree } => files.extend(self::files(blobs, tree)),
            NodeKind::File { content: Content::Inline(pieces), .. } => {
                let bytes = pieces.iter().flat_map(|piece| match piece {
                    Piece::Data { blob, .. } => blobs[blob].1.clone(),
                    Piece::Hole(length) => vec![0; *length as usize],
                });
                files.insert(node.name.as_bytes().to_vec(), bytes.collect());
            }
            _ => {}
        }
    }
    files
}

#[test]
fn a_folder_is_in_its_segments_and_every_blob_once_whatever_the_number_of_workers() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).expect("written");
    std::fs::create_dir(folder.path().join("sub")).expect("made");
    // Ends around the bounds of batches and chunks.
    for (at, length) in
        [0, 1, 300_000, 1 << 20, (4 << 20) + 1, (8 << 20) - 1, 8 << 20, 21 << 20].iter().enumerate()
    {
        write(&format!("file-{at}"), &noise(*length, at as u64));
        write(&format!("sub/copy-{at}"), &noise(*length, at as u64));
    }
    for at in 0..3000 {
        write(&format!("sub/small-{at}"), format!("{at}\n").repeat(at % 50).as_bytes());
    }
    let mut ids = HashSet::new();
    for workers in [1, 3] {
        let (id, counts, segments) = run(folder.path(), workers);
        ids.insert(id);
        assert_eq!(counts.files, 16 + 3000);
        assert!(counts.left_out.is_empty());
        assert!(counts.bytes_new < counts.bytes_in && counts.bytes_packed <= counts.bytes_new);
        let blobs = blobs(&segments);
        let snapshot = Snapshot::decode(&blobs[&id].1).expect("decodes");
        let found = files(&blobs, &snapshot.roots[0].tree);
        assert_eq!(found.len(), 16 + 3000);
        for entry in [folder.path().to_owned(), folder.path().join("sub")]
            .iter()
            .flat_map(|dir| std::fs::read_dir(dir).expect("lists").map(|entry| entry.expect("there")))
        {
            if entry.file_type().expect("known").is_file() {
                let name = entry.file_name().into_encoded_bytes();
                assert!(found[&name] == std::fs::read(entry.path()).expect("reads"), "{:?}", entry.path());
            }
        }
    }
    assert_eq!(ids.len(), 1, "the snapshot depends on the number of workers");
}

#[test]
fn a_sink_that_takes_no_more_ends_all_stages() {
    let folder = tempfile::tempdir().expect("a folder");
    for at in 0..12 {
        std::fs::write(folder.path().join(format!("{at}")), noise(5 << 20, at)).expect("written");
    }
    let scanner = Scanner::new(vec![folder.path().to_owned()], &[]).expect("valid");
    for (workers, most) in [(1, 0), (1, 3), (3, 0), (3, 5)] {
        let home = tempfile::tempdir().expect("a folder");
        let taken = Mutex::new(0);
        let sink = |_| {
            let mut taken = taken.lock();
            *taken += 1;
            *taken <= most
        };
        let result = pipeline(home.path(), workers).run(&scanner, &sink);
        assert!(matches!(result, Err(PipelineError::SinkClosed)), "{:?}", result.map(|(id, _)| id));
    }
}
