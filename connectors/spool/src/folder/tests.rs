//! Files of transactions in a folder of their own.

use super::*;
use crate::Pool;

const REMEDIES: Remedies = Remedies { disk_full: "free space", limit: "raise the limit" };

fn open(path: &Path, max: Option<u64>) -> Result<Folder> {
    Folder::open(path.to_owned(), max, REMEDIES)
}

/// What is in memory of a transaction of so many bytes, of which hardly two follow each other alike.
fn blocks(len: usize, first: usize) -> Blocks {
    let bytes: Vec<u8> = (0..=250).cycle().skip(first).take(len).collect();
    let mut blocks = Blocks::default();
    blocks.write(&bytes, &mut Pool::default());
    blocks
}

fn bytes(blocks: &Blocks) -> Vec<u8> {
    blocks.pieces().collect::<Vec<_>>().concat()
}

fn names(path: &Path) -> Vec<String> {
    let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<String> = fs::read_dir(path).unwrap().map(name).collect();
    names.sort();
    names
}

fn read_all(folder: &mut Folder, key: u64, len: usize, piece: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while out.len() < len {
        let at = out.len() as u64;
        folder.read(key, at, &mut out, piece.min(len as u64 - at)).unwrap();
    }
    out
}

#[test]
fn files_hold_what_was_appended_and_go_with_their_transaction() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spool/shop");
    let mut folder = open(&path, None).unwrap();
    let (first, second, other) = (blocks(100_000, 1), blocks(70_000, 2), blocks(30, 3));
    folder.append(7, &first).unwrap();
    folder.append(8, &other).unwrap();
    folder.append(7, &second).unwrap();
    assert_eq!(names(&path), ["7.spool", "8.spool"]);
    let whole = [bytes(&first), bytes(&second)].concat();
    assert_eq!(read_all(&mut folder, 7, whole.len(), 4096), whole);
    assert_eq!(read_all(&mut folder, 7, whole.len(), 1 << 20), whole);
    assert_eq!(read_all(&mut folder, 8, 20, 7), bytes(&other)[..20]);
    folder.remove(7, whole.len() as u64).unwrap();
    assert_eq!(names(&path), ["8.spool"]);
    drop(folder);
    assert!(names(&path).is_empty(), "a session leaves nothing");
}

#[test]
fn what_a_killed_session_left_is_removed_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["7.spool", "18446744073709551615.spool", "notes.spool", "7.txt"] {
        fs::write(dir.path().join(name), "x").unwrap();
    }
    let folder = open(dir.path(), None).unwrap();
    assert_eq!(names(dir.path()), ["7.txt", "notes.spool"]);
    drop(folder);
    assert_eq!(names(dir.path()), ["7.txt", "notes.spool"]);
}

#[test]
fn a_second_session_is_kept_out() {
    let dir = tempfile::tempdir().unwrap();
    let mut folder = open(dir.path(), None).unwrap();
    folder.append(7, &blocks(10, 1)).unwrap();
    let error = open(dir.path(), None).unwrap_err();
    assert_eq!((error.code(), error.class()), (codes::SPOOL_BUSY, Class::Transient));
    assert_eq!(names(dir.path()), ["7.spool"], "the first one's files are untouched");
    drop(folder);
    drop(open(dir.path(), None).unwrap());
}

#[test]
fn the_limit_counts_all_files_and_what_was_removed_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let mut folder = open(dir.path(), Some(250)).unwrap();
    let one = blocks(100, 1);
    folder.append(1, &one).unwrap();
    folder.append(2, &one).unwrap();
    let error = folder.append(3, &one).unwrap_err();
    assert_eq!((error.code(), error.class()), (codes::SPOOL_LIMIT, Class::Fatal));
    assert!(error.to_string().contains("300 bytes"), "{error}");
    assert_eq!(error.remedy(), Some(REMEDIES.limit));
    assert_eq!(names(dir.path()), ["1.spool", "2.spool"], "nothing half-written");
    folder.remove(1, 100).unwrap();
    folder.append(3, &one).unwrap();
}

#[test]
fn unusable_folders_and_damaged_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "x").unwrap();
    for path in [file.clone(), file.join("below")] {
        let error = open(&path, None).unwrap_err();
        assert_eq!((error.code(), error.class()), (codes::SPOOL_UNUSABLE, Class::Fatal), "{error}");
    }
    let mut folder = open(dir.path(), None).unwrap();
    folder.append(1, &blocks(117, 1)).unwrap();
    File::options().write(true).open(dir.path().join("1.spool")).unwrap().set_len(50).unwrap();
    let mut out = Vec::new();
    folder.read(1, 0, &mut out, 117).unwrap();
    let error = folder.read(1, 50, &mut out, 67).unwrap_err();
    assert_eq!((error.code(), error.class()), (codes::SPOOL_IO, Class::Transient));
    // Gone altogether.
    fs::remove_file(dir.path().join("1.spool")).unwrap();
    let error = folder.read(1, 3, &mut out, 5).unwrap_err();
    assert_eq!((error.code(), error.class()), (codes::SPOOL_IO, Class::Transient), "{error}");
}

#[test]
fn a_full_disk_passes_and_is_told_with_the_sources_own_remedy() {
    for kind in [ErrorKind::StorageFull, ErrorKind::QuotaExceeded] {
        let error = file_error(REMEDIES, "write", Path::new("7.spool"), kind.into());
        assert_eq!((error.code(), error.class()), (codes::SPOOL_DISK_FULL, Class::Transient));
        assert_eq!(error.remedy(), Some(REMEDIES.disk_full));
    }
}

#[test]
fn a_check_finds_what_opening_would_and_makes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spool/shop");
    Folder::check(&path, REMEDIES).unwrap();
    assert!(names(dir.path()).is_empty());
    drop(open(&path, None).unwrap());
    Folder::check(&path, REMEDIES).unwrap();
    Folder::check(Path::new("no/such/folder"), REMEDIES).unwrap();

    fs::write(dir.path().join("file"), "").unwrap();
    for blocked in ["file", "file/shop", "file/a/b"] {
        let path = dir.path().join(blocked);
        let told = Folder::check(&path, REMEDIES).unwrap_err();
        assert_eq!(told.code(), codes::SPOOL_UNUSABLE, "{blocked}: {told}");
        assert_eq!(open(&path, None).unwrap_err().code(), told.code(), "{blocked}");
    }
    assert_eq!(names(dir.path()), ["file", "spool"]);
}
