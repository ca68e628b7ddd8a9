use std::fs::{FileTimes, Permissions, metadata, read, read_dir, set_permissions, symlink_metadata};
use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};
use std::time::SystemTime;

use super::*;

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn mode(path: &Path) -> u32 {
    metadata(path).unwrap().mode() & 0o7777
}

/// Whether this user may give files away; says so if not.
fn is_root(what: &str) -> bool {
    let root = geteuid().is_root();
    if !root {
        println!("SKIPPED {what}: expected to run as root");
    }
    root
}

#[test]
fn the_mode_of_a_replaced_file_stays() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("net.so");
    write_file(&path, b"first").unwrap();
    let fresh = mode(&path);
    for kept in [0o600, 0o640, 0o755, fresh] {
        set_permissions(&path, Permissions::from_mode(kept)).unwrap();
        write_file(&path, b"second").unwrap();
        assert_eq!((mode(&path), read(&path).unwrap()), (kept, b"second".to_vec()), "{kept:o}");
    }
    assert_eq!(names(dir.path()), ["net.so"]);
}

#[test]
fn the_owner_of_a_replaced_file_stays() {
    if !is_root("the_owner_of_a_replaced_file_stays") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("net.so");
    write_file(&path, b"first").unwrap();
    chown(&path, Some(1234), Some(2345)).unwrap();
    set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    write_file(&path, b"second").unwrap();
    let found = metadata(&path).unwrap();
    assert_eq!((found.uid(), found.gid(), mode(&path)), (1234, 2345, 0o640));
}

#[test]
fn links_stay_links_and_dangling_ones_get_their_file() {
    let dir = tempfile::tempdir().unwrap();
    let (folder, link, chain) = (dir.path().join("real"), dir.path().join("link"), dir.path().join("chain"));
    std::fs::create_dir(&folder).unwrap();
    symlink("real/net.so", &link).unwrap();
    symlink("link", &chain).unwrap();
    for content in [b"first", b"again"] {
        write_file(&chain, content).unwrap();
        assert!(symlink_metadata(&link).unwrap().is_symlink() && symlink_metadata(&chain).unwrap().is_symlink());
        assert_eq!(read(folder.join("net.so")).unwrap(), content);
    }
    assert_eq!((names(dir.path()).len(), names(&folder)), (3, vec!["net.so".to_string()]));
    // A link to a folder that is not there, and one to itself.
    symlink("nowhere/net.so", dir.path().join("lost")).unwrap();
    symlink("loop", dir.path().join("loop")).unwrap();
    for name in ["lost", "loop"] {
        assert!(write_file(dir.path().join(name), b"x").is_err());
        assert!(symlink_metadata(dir.path().join(name)).unwrap().is_symlink());
    }
}

#[test]
fn planted_links_are_refused() {
    if !is_root("planted_links_are_refused") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (shared, victim) = (dir.path().join("shared"), dir.path().join("victim"));
    std::fs::create_dir(&shared).unwrap();
    std::fs::write(&victim, b"precious").unwrap();
    let (planted, own) = (shared.join("planted"), shared.join("own"));
    symlink(&victim, &planted).unwrap();
    symlink(&victim, &own).unwrap();
    lchown(&planted, Some(1234), Some(1234)).unwrap();
    set_permissions(&shared, Permissions::from_mode(0o1777)).unwrap();
    let error = write_file(&planted, b"x").unwrap_err().to_string();
    assert!(error.contains("link of another user in a shared folder"), "{error}");
    assert_eq!(read(&victim).unwrap(), b"precious");
    // One's own link is followed, and in a folder of one's own any.
    write_file(&own, b"mine").unwrap();
    set_permissions(&shared, Permissions::from_mode(0o755)).unwrap();
    write_file(&planted, b"asked").unwrap();
    assert_eq!(read(&victim).unwrap(), b"asked");
}

#[test]
fn private_files_follow_no_link() {
    let dir = tempfile::tempdir().unwrap();
    let (path, victim) = (dir.path().join("perf-1.map"), dir.path().join("victim"));
    std::fs::write(&victim, b"precious").unwrap();
    symlink(&victim, &path).unwrap();
    // Left by this user: replaced, not followed.
    write_private_file(&path, b"map").unwrap();
    assert_eq!((read(&path).unwrap(), mode(&path)), (b"map".to_vec(), 0o600));
    assert!(symlink_metadata(&path).unwrap().is_file());
    assert_eq!(read(&victim).unwrap(), b"precious");
    if is_root("a private file of another user") {
        lchown(&path, Some(1234), Some(1234)).unwrap();
        let error = write_private_file(&path, b"x").unwrap_err().to_string();
        assert!(error.contains("found one of another user"), "{error}");
        assert_eq!(read(&path).unwrap(), b"map");
    }
}

#[test]
fn unreadable_targets_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, b"x").unwrap();
    // Neither absent nor there: a file where a folder is expected.
    assert!(write_file(file.join("net.so"), b"x").is_err());
    assert!(write_file(dir.path(), b"x").unwrap_err().to_string().contains("directory"));
}

#[test]
fn the_longest_names_are_replaced_too() {
    let dir = tempfile::tempdir().unwrap();
    for length in [240, 241, 255] {
        let path = dir.path().join("n".repeat(length));
        for content in [b"first", b"again"] {
            write_file(&path, content).unwrap();
            assert_eq!(read(&path).unwrap(), content);
        }
    }
    assert_eq!(names(dir.path()).len(), 3);
}

#[test]
fn where_one_of_several_files_fails_none_changes() {
    let dir = tempfile::tempdir().unwrap();
    let [weights, header, library] = ["net.weights", "net.h", "net.so"].map(|name| dir.path().join(name));
    std::fs::write(&weights, b"old").unwrap();
    let pending = |path: &Path| Pending::write(path, &[b"new"]).unwrap();
    let last = pending(&library);
    let published = [&weights, &header].map(|path| pending(path).publish(true).unwrap());
    assert_eq!((read(&weights).unwrap(), read(&header).unwrap()), (b"new".to_vec(), b"new".to_vec()));
    // A folder takes the library's name before it is published.
    std::fs::create_dir(&library).unwrap();
    assert!(last.publish(true).is_err());
    published.into_iter().rev().for_each(Published::undo);
    assert_eq!(read(&weights).unwrap(), b"old");
    assert_eq!(names(dir.path()), ["net.so", "net.weights"]);
}

#[test]
fn several_files_replace_several() {
    let dir = tempfile::tempdir().unwrap();
    let [a, b] = ["a", "b"].map(|name| dir.path().join(name));
    for content in [&b"first"[..], b"second"] {
        write_files(&[(&a, &[content]), (&b, &[content, content])]).unwrap();
        assert_eq!((read(&a).unwrap(), read(&b).unwrap()), (content.to_vec(), content.repeat(2)));
        assert_eq!(names(dir.path()), ["a", "b"]);
    }
}

#[test]
fn files_with_names_of_their_own_leave_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("net.so");
    for content in [b"first", b"again"] {
        let (mut file, temporary) = named(dir.path(), 0o600).unwrap();
        complete(&mut file, &[content], None).unwrap();
        Pending::Named(file, temporary, path.clone()).publish(false).unwrap();
        assert_eq!((names(dir.path()), read(&path).unwrap()), (vec!["net.so".to_string()], content.to_vec()));
    }
    drop(named(dir.path(), 0o600).unwrap());
    assert_eq!(names(dir.path()), ["net.so"]);
}

#[test]
fn what_killed_processes_left_is_swept_away() {
    let dir = tempfile::tempdir().unwrap();
    let hour = FileTimes::new().set_modified(SystemTime::now() - Duration::from_secs(3600));
    let old = |name: &str| {
        let file = File::create(dir.path().join(name)).unwrap();
        file.set_times(hour).unwrap();
        file
    };
    drop(old(".fornax-1-0.tmp"));
    drop(old("net.so"));
    let held = old(".fornax-2-0.tmp");
    flock(&held, FlockOperation::NonBlockingLockExclusive).unwrap();
    drop(File::create(dir.path().join(".fornax-3-0.tmp")).unwrap());
    drop(named(dir.path(), 0o600).unwrap());
    assert_eq!(names(dir.path()), [".fornax-2-0.tmp", ".fornax-3-0.tmp", "net.so"]);
}
