//! The news of the keystore: one line an event, appended to one file, so that watching thousands
//! of entries costs one open() a second.
//!
//! News, not truth: it is neither synced nor complete after a crash. Whoever starts, or is told
//! [`Change::Everything`], looks at the entries themselves.

use std::fmt;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};

use rustix::fs::OFlags;

use super::disk::{Dir, errno};
use super::lock::{PATIENCE, acquire};
use super::{Keystore, KeystoreError, paths};
use crate::settings::EntryName;

/// One event.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Change {
    /// A new version is current.
    Certificate(EntryName, u64),
    Evidence(EntryName),
    /// An answer to a challenge came or went.
    Challenge,
    /// Somebody asks for a new certificate now.
    Renew(EntryName),
    Import(EntryName),
    /// Lines were lost: look at everything. Never written.
    Everything,
}

/// How far somebody has read. The default is before the beginning.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Cursor {
    /// The file's inode; 0: there was no file yet.
    pub file: u64,
    pub offset: u64,
}

impl Keystore {
    /// Tells all who watch.
    pub fn announce(&self, change: &Change) -> Result<(), KeystoreError> {
        let dir = self.root()?;
        // NFS appends at what it believes to be the end: hence the lock. Without it after all
        // this time a lost line is the worst, and better than none.
        let Some(held) = acquire(&dir, paths::CHANGES, OFlags::APPEND, PATIENCE)? else {
            let file = dir.open_or_create(paths::CHANGES, OFlags::RDWR | OFlags::APPEND)?;
            return append(&dir, &file, change);
        };
        append(&dir, &held, change)?;
        if size(&dir, &held)? > ROTATE {
            dir.rename(paths::CHANGES, paths::CHANGES_OLD)?;
        }
        Ok(())
    }

    /// The end of the news: taken before everything is looked at, so that nothing falls between.
    pub fn changes_end(&self) -> Result<Cursor, KeystoreError> {
        let dir = self.root()?;
        let file = dir.open_file(paths::CHANGES, OFlags::RDONLY)?;
        file.map_or(Ok(Cursor::default()), |file| end(&dir, &file))
    }

    /// What happened since, in order, and how far that is: a bounded piece, so the caller asks
    /// again until nothing comes. Opens the file by its name: NFS looks at the server then.
    pub fn changes_since(&self, cursor: Cursor) -> Result<(Vec<Change>, Cursor), KeystoreError> {
        let dir = self.root()?;
        let open = |name| dir.open_file(name, OFlags::RDONLY);
        let file = open(paths::CHANGES)?;
        if let Some(file) = &file {
            if inode(&dir, file)? == cursor.file {
                return read(&dir, file, cursor);
            }
        }
        // Rotated: the rest of the old file comes first.
        if cursor.file != 0 {
            match open(paths::CHANGES_OLD)? {
                Some(old) if inode(&dir, &old)? == cursor.file => {
                    let (changes, next) = read(&dir, &old, cursor)?;
                    if next != cursor || file.is_none() {
                        return Ok((changes, next));
                    }
                }
                _ => {
                    let end = file.map_or(Ok(Cursor::default()), |file| end(&dir, &file))?;
                    return Ok((vec![Change::Everything], end));
                }
            }
        }
        match file {
            Some(file) => {
                let start = Cursor { file: inode(&dir, &file)?, offset: 0 };
                read(&dir, &file, start)
            }
            None => Ok((Vec::new(), cursor)),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Certificate(name, version) => write!(f, "cert {name} {version}"),
            Change::Evidence(name) => write!(f, "evidence {name}"),
            Change::Challenge => f.write_str("challenge"),
            Change::Renew(name) => write!(f, "renew {name}"),
            Change::Import(name) => write!(f, "import {name}"),
            Change::Everything => f.write_str("everything"),
        }
    }
}

impl Change {
    /// None: a line that a newer version wrote, or half a line.
    fn parse(line: &str) -> Option<Change> {
        let mut words = line.split(' ');
        let kind = words.next()?;
        let mut name = || EntryName::new(words.next()?);
        let change = match kind {
            "cert" => Change::Certificate(name()?, words.next()?.parse().ok()?),
            "evidence" => Change::Evidence(name()?),
            "challenge" => Change::Challenge,
            "renew" => Change::Renew(name()?),
            "import" => Change::Import(name()?),
            "everything" => Change::Everything,
            _ => return None,
        };
        words.next().is_none().then_some(change)
    }
}

fn append(dir: &Dir, mut file: &File, change: &Change) -> Result<(), KeystoreError> {
    // After half a line (a full disk) a new one begins.
    let glue = if ends_a_line(file, size(dir, file)?) { "" } else { "\n" };
    file.write_all(format!("{glue}{change}\n").as_bytes())
        .map_err(|e| dir.failed("write", paths::CHANGES, errno(&e)))
}

/// The lines from the cursor on, as far as they are whole.
fn read(dir: &Dir, file: &File, from: Cursor) -> Result<(Vec<Change>, Cursor), KeystoreError> {
    let size = size(dir, file)?;
    if size == from.offset {
        return Ok((Vec::new(), from));
    }
    // Shorter than before, or another file under the same inode.
    if size < from.offset || !ends_a_line(file, from.offset) {
        return Ok((vec![Change::Everything], end(dir, file)?));
    }
    let mut bytes = vec![0; PIECE.min(usize::try_from(size - from.offset).unwrap_or(PIECE))];
    file.read_exact_at(&mut bytes, from.offset)
        .map_err(|e| dir.failed("read", paths::CHANGES, errno(&e)))?;
    let Some(last) = bytes.iter().rposition(|b| *b == b'\n') else {
        if bytes.len() < LINE {
            return Ok((Vec::new(), from)); // the end of the line is still to come
        }
        return Ok((vec![Change::Everything], end(dir, file)?));
    };
    let lines = bytes[..last].split(|b| *b == b'\n');
    let changes = lines.filter_map(|l| Change::parse(std::str::from_utf8(l).ok()?)).collect();
    Ok((changes, Cursor { offset: from.offset + last as u64 + 1, ..from }))
}

fn ends_a_line(file: &File, offset: u64) -> bool {
    let mut byte = [0];
    offset == 0 || (file.read_exact_at(&mut byte, offset - 1).is_ok() && byte == *b"\n")
}

fn end(dir: &Dir, file: &File) -> Result<Cursor, KeystoreError> {
    Ok(Cursor { file: inode(dir, file)?, offset: size(dir, file)? })
}

fn inode(dir: &Dir, file: &File) -> Result<u64, KeystoreError> {
    file.metadata().map(|m| m.ino()).map_err(|e| dir.failed("fstat", paths::CHANGES, errno(&e)))
}

fn size(dir: &Dir, file: &File) -> Result<u64, KeystoreError> {
    file.metadata().map(|m| m.len()).map_err(|e| dir.failed("fstat", paths::CHANGES, errno(&e)))
}

/// Read at once.
const PIECE: usize = 64 << 10;
/// No line is longer: a name has 253 bytes.
const LINE: usize = 512;
const ROTATE: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keystore::testing::{self, name};

    /// Reads until nothing comes, as the watcher does.
    fn rest(keystore: &Keystore, cursor: &mut Cursor) -> Vec<Change> {
        let mut all = Vec::new();
        loop {
            let (changes, next) = keystore.changes_since(*cursor).unwrap();
            if next == *cursor {
                assert_eq!(changes, []);
                return all;
            }
            all.extend(changes);
            *cursor = next;
        }
    }

    #[test]
    fn lines_and_back() {
        let longest = [["a"; 63].concat(), ["b"; 63].concat(), ["c"; 63].concat(), "d".repeat(61)];
        let long = name(&longest.join("."));
        let (_dir, keystore) = testing::keystore();
        let mut cursor = keystore.changes_end().unwrap();
        assert_eq!(cursor, Cursor::default());
        let changes = [
            Change::Certificate(long, u64::MAX),
            Change::Evidence(name("a.example")),
            Change::Challenge,
            Change::Renew(name("a.example")),
            Change::Import(name("a.example")),
        ];
        for change in &changes {
            assert!(change.to_string().len() < LINE);
            keystore.announce(change).unwrap();
        }
        assert_eq!(rest(&keystore, &mut cursor), changes);
        assert_eq!(cursor, keystore.changes_end().unwrap());
        let text = std::fs::read_to_string(keystore.dir().join("changes")).unwrap();
        assert!(
            text.ends_with("\nevidence a.example\nchallenge\nrenew a.example\nimport a.example\n")
        );
    }

    #[test]
    fn unknown_and_half_lines() {
        let (_dir, keystore) = testing::keystore();
        let file = keystore.dir().join("changes");
        let mut cursor = Cursor::default();
        std::fs::write(&file, b"moved a.example\ncert ../x 1\ncert a.example 1 2\n\xff\nchal")
            .unwrap();
        assert_eq!(rest(&keystore, &mut cursor), []);
        assert!(cursor.offset > 0);
        keystore.announce(&Change::Challenge).unwrap();
        assert_eq!(rest(&keystore, &mut cursor), [Change::Challenge]);

        std::fs::write(&file, "x".repeat(LINE * 2)).unwrap();
        assert_eq!(rest(&keystore, &mut Cursor { offset: 0, ..cursor })[0], Change::Everything);
    }

    #[test]
    fn a_file_that_shrank_or_went_tells_everything() {
        let (_dir, keystore) = testing::keystore();
        let file = keystore.dir().join("changes");
        let mut cursor = Cursor::default();
        for _ in 0..3 {
            keystore.announce(&Change::Challenge).unwrap();
        }
        rest(&keystore, &mut cursor);
        std::fs::write(&file, "challenge\n").unwrap();
        assert_eq!(rest(&keystore, &mut cursor), [Change::Everything]);
        std::fs::write(&file, "renew a.example\n").unwrap();
        assert_eq!(rest(&keystore, &mut cursor), [Change::Everything]); // not at a line's end
        std::fs::remove_file(&file).unwrap();
        assert_eq!(rest(&keystore, &mut cursor), [Change::Everything]);
        assert_eq!(cursor, Cursor::default());
        keystore.announce(&Change::Challenge).unwrap();
        assert_eq!(rest(&keystore, &mut cursor), [Change::Challenge]);
    }

    #[test]
    fn nothing_is_lost_by_rotation() {
        let (_dir, keystore) = testing::keystore();
        let full = |n: u64| format!("{}\n", Change::Certificate(name("a.example"), n));
        let file = keystore.dir().join("changes");
        let mut cursor = Cursor::default();
        let mut expected = Vec::new();
        for n in 1..=3 {
            keystore.announce(&Change::Certificate(name("a.example"), n)).unwrap();
            expected.push(Change::Certificate(name("a.example"), n));
        }
        assert_eq!(rest(&keystore, &mut cursor), expected);

        let mut text = std::fs::read_to_string(&file).unwrap();
        let lines = ROTATE / 16;
        (0..lines).for_each(|n| text.push_str(&full(n)));
        std::fs::write(&file, &text).unwrap();
        keystore.announce(&Change::Challenge).unwrap(); // rotates
        assert!(!file.exists());
        let first = rest(&keystore, &mut cursor);
        assert_eq!(first.len() as u64, lines + 1);
        keystore.announce(&Change::Renew(name("b.example"))).unwrap();
        assert_eq!(rest(&keystore, &mut cursor), [Change::Renew(name("b.example"))]);

        // Two rotations between two looks: some lines are gone.
        for _ in 0..2 {
            std::fs::write(&file, &text).unwrap();
            keystore.announce(&Change::Challenge).unwrap();
        }
        keystore.announce(&Change::Challenge).unwrap();
        assert!(rest(&keystore, &mut cursor).contains(&Change::Everything));
    }

    #[test]
    fn writers_lose_no_line() {
        let (_dir, keystore) = testing::keystore();
        std::thread::scope(|scope| {
            for n in 0..4 {
                let keystore = &keystore;
                scope.spawn(move || {
                    for _ in 0..50 {
                        let change = Change::Certificate(name("a.example"), n);
                        keystore.announce(&change).unwrap();
                    }
                });
            }
        });
        let all = rest(&keystore, &mut Cursor::default());
        assert_eq!(all.len(), 200);
    }
}
