//! A restore never harms what is there.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use fincrypt_e2e::{Plan, World};
use fincrypt_testkit::{Unlike, compare};

use crate::{text, world};

fn failed_paths(outcome: &fincrypt_testkit::Outcome) -> Vec<String> {
    let json = outcome.json();
    let failed = json["failed"].as_array().cloned().unwrap_or_default();
    failed.iter().map(|failed| failed["path"].as_str().unwrap_or_default().to_owned()).collect()
}

/// Writes a file and gives it back its mode and time, so that only its bytes tell.
fn overwrite(path: &Path, content: &[u8]) {
    let meta = fs::metadata(path).expect("there");
    fs::write(path, content).expect("written");
    let times = fs::FileTimes::new().set_modified(meta.modified().expect("has a time"));
    fs::File::open(path).and_then(|file| file.set_times(times)).expect("set");
}

fn backed_up(label: &str) -> World {
    let world = world(label, Plan::small());
    fs::create_dir_all(world.source.join("mine/deep")).expect("made");
    fs::write(world.source.join("mine/letter"), "as it was").expect("written");
    fs::write(world.source.join("mine/deep/diary"), "dear diary").expect("written");
    world.backup();
    world
}

#[test]
fn a_different_file_is_replaced_only_when_told_to() {
    let world = backed_up("overwrite");
    let restored = world.restore(&world.owner, "latest", "target");
    let target = world.path("target");
    let letter = restored.join("mine/letter");
    overwrite(&letter, b"as I am");
    fs::write(restored.join("mine/new"), "was never backed up").expect("written");

    let outcome = world.code(&world.owner, &["restore", "latest", "--target", text(&target)], 3);
    let failed = failed_paths(&outcome);
    assert!(failed.len() == 1 && failed[0].ends_with("mine/letter"), "{failed:?}");
    assert!(
        outcome.stderr.contains("mine/letter") && outcome.stderr.contains("--overwrite"),
        "{}",
        outcome.stderr
    );
    assert_eq!(fs::read(&letter).expect("read"), b"as I am");

    world.ok(&world.owner, &["restore", "latest", "--target", text(&target), "--overwrite"]);
    let comparison = world.compare(&restored);
    let extra: Vec<_> = comparison.differences.iter().filter(|d| d.unlike == Unlike::Extra).collect();
    assert_eq!(extra.len(), 1, "what was there besides stays: {comparison}");
    fs::remove_file(restored.join("mine/new")).expect("still there");
    let mut comparison = world.compare(&restored);
    // Removing it has just changed its folder's time.
    comparison.forgive(|d| d.path.as_os_str() == "mine" && matches!(d.unlike, Unlike::Mtime(..)));
    assert!(comparison.equal(), "{comparison}");
}

#[test]
fn nothing_is_written_outside_the_target() {
    let world = backed_up("outside");
    let outside = world.path("outside");
    fs::create_dir(&outside).expect("made");
    fs::write(outside.join("letter"), "not yours").expect("written");
    let target = world.path("target");
    let inside = world.inside(&target);
    fs::create_dir_all(inside.join("special")).expect("made");
    symlink(&outside, inside.join("mine")).expect("planted");
    symlink(outside.join("planted"), inside.join("special/one byte")).expect("planted");

    for overwrite in [false, true] {
        let mut arguments = vec!["restore", "latest", "--target", text(&target)];
        arguments.extend(overwrite.then_some("--overwrite"));
        let outcome = world.run(&world.owner, &arguments);
        let failed = failed_paths(&outcome);
        if !overwrite {
            assert_eq!(outcome.code, Some(3), "{}{}", outcome.stdout, outcome.stderr);
            for path in ["mine/letter", "mine/deep/diary", "special/one byte"] {
                assert!(failed.iter().any(|failed| failed.ends_with(path)), "{path} is not in {failed:?}");
            }
        }
        let names: Vec<_> = fs::read_dir(&outside).expect("read").filter_map(Result::ok).collect();
        assert_eq!(names.len(), 1, "something came into {}", outside.display());
        assert_eq!(fs::read(outside.join("letter")).expect("read"), b"not yours");
    }
}

#[test]
fn single_paths_are_listed_and_restored() {
    let world = backed_up("paths");
    let source = world.source.file_name().and_then(|name| name.to_str()).expect("UTF-8");
    let listed = world.ok(&world.owner, &["ls", "latest", &format!("{source}/mine")]);
    let entries = listed["entries"].as_array().cloned().unwrap_or_default();
    let paths: Vec<_> = entries.iter().filter_map(|entry| entry["path"].as_str()).collect();
    assert!(paths.iter().any(|path| path.ends_with("mine/letter")), "{listed}");
    assert!(entries.iter().all(|entry| entry["mode"].is_u64() && entry["kind"].is_string()), "{listed}");

    let target = world.path("target");
    let wanted = format!("{source}/mine/deep");
    world.ok(&world.owner, &["restore", "latest", "--target", text(&target), &wanted]);
    let comparison = compare(&world.source.join("mine/deep"), &world.inside(&target).join("mine/deep"));
    let comparison = comparison.expect("compared");
    assert!(comparison.equal() && comparison.files == 1, "{comparison}");
    let others = fs::read_dir(world.inside(&target).join("mine")).expect("read").count();
    assert_eq!(others, 1, "only what was asked for comes back");
}
