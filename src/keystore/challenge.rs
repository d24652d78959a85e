//! Answers to challenges, for the other hosts that the CA's validation may reach.
//!
//! They live for minutes: nothing here is synced to the disk, and damage is garbage.

use serde::{Deserialize, Serialize};

use super::disk::Dir;
use super::lock::{PATIENCE, insist, try_acquire};
use super::{Change, Keystore, KeystoreError, paths};
use crate::ca::ChallengeAnswer;
use crate::clock::Time;

impl Keystore {
    /// Lets every host that watches this keystore answer a challenge, until `expires`.
    pub fn put_challenge(
        &self,
        answer: &ChallengeAnswer,
        expires: Time,
    ) -> Result<(), KeystoreError> {
        let dir = self.root()?.make(paths::CHALLENGES)?;
        let file = paths::challenge(answer);
        let stored = Stored { answer: answer.clone(), expires };
        let json = serde_json::to_vec(&stored)
            .map_err(|e| dir.damaged(&file, format!("not stored: {e}")))?;
        if json.len() > LIMIT {
            return Err(dir.damaged(&file, "not stored: too large".into()));
        }
        let lock = insist(&dir, paths::LOCK, PATIENCE)?;
        dir.replace_lightly(&file, &json)?;
        drop(lock);
        self.announce(&Change::Challenge)
    }

    /// Takes an answer back; one that is gone already is fine.
    pub fn remove_challenge(&self, answer: &ChallengeAnswer) -> Result<(), KeystoreError> {
        let Some(dir) = self.root()?.enter(paths::CHALLENGES)? else { return Ok(()) };
        let lock = insist(&dir, paths::LOCK, PATIENCE)?;
        dir.remove(&paths::challenge(answer))?;
        drop(lock);
        self.announce(&Change::Challenge)
    }

    /// All answers that count at `now`. What expired is removed on the way.
    pub fn challenges(&self, now: Time) -> Result<Vec<ChallengeAnswer>, KeystoreError> {
        let Some(dir) = self.root()?.enter(paths::CHALLENGES)? else { return Ok(Vec::new()) };
        let mut answers = Vec::new();
        let mut garbage = false;
        for file in dir.names()?.iter().filter(|f| *f != paths::LOCK) {
            match look(&dir, file, now) {
                Look::Answer(answer) if answers.len() < ANSWERS => answers.push(answer),
                Look::Answer(_) | Look::Nothing => {}
                Look::Garbage => garbage = true,
            }
        }
        if garbage {
            let _ = sweep(&dir, now); // the next reader tries again
        }
        Ok(answers)
    }
}

#[derive(Serialize, Deserialize)]
struct Stored {
    answer: ChallengeAnswer,
    expires: Time,
}

enum Look {
    Answer(ChallengeAnswer),
    /// Gone, or unreadable to us: one such file does not hide the others.
    Nothing,
    /// Expired, damaged, or left by a dead process.
    Garbage,
}

fn look(dir: &Dir, file: &str, now: Time) -> Look {
    if !paths::is_challenge(file) {
        return if paths::is_temporary(file) { Look::Garbage } else { Look::Nothing };
    }
    match dir.read(file, LIMIT) {
        Ok(Some(json)) => match serde_json::from_slice::<Stored>(&json) {
            Ok(stored) if now < stored.expires => Look::Answer(stored.answer),
            _ => Look::Garbage,
        },
        Err(KeystoreError::Damaged { .. }) => Look::Garbage,
        Ok(None) | Err(_) => Look::Nothing,
    }
}

/// Removes garbage, unless somebody is writing: under the lock nothing is half-written.
fn sweep(dir: &Dir, now: Time) -> Result<(), KeystoreError> {
    let Some(_lock) = try_acquire(dir, paths::LOCK, rustix::fs::OFlags::empty())? else {
        return Ok(());
    };
    for file in dir.names()? {
        if matches!(look(dir, &file, now), Look::Garbage) {
            dir.remove(&file)?;
        }
    }
    Ok(())
}

const LIMIT: usize = 8 << 10;
const ANSWERS: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keystore::testing;
    use crate::settings::Challenge;

    fn answer(token: &str) -> ChallengeAnswer {
        ChallengeAnswer {
            kind: Challenge::Http01,
            name: "a.example".into(),
            token: token.into(),
            key_authorization: format!("{token}.print"),
        }
    }

    #[test]
    fn come_and_go() {
        let (_dir, keystore) = testing::keystore();
        let at = Time::from_secs;
        assert_eq!(keystore.challenges(at(0)).unwrap(), []);
        keystore.remove_challenge(&answer("none")).unwrap();
        keystore.put_challenge(&answer("one"), at(10)).unwrap();
        keystore.put_challenge(&answer("two/../x"), at(20)).unwrap();
        keystore.put_challenge(&answer("one"), at(15)).unwrap();
        let mut all = keystore.challenges(at(14)).unwrap();
        all.sort_by(|a, b| a.token.cmp(&b.token));
        assert_eq!(all, [answer("one"), answer("two/../x")]);
        assert_eq!(keystore.challenges(at(15)).unwrap(), [answer("two/../x")]);
        keystore.remove_challenge(&answer("two/../x")).unwrap();
        assert_eq!(keystore.challenges(at(0)).unwrap(), []); // the expired one is removed
    }

    #[test]
    fn garbage_goes_others_files_stay() {
        let (_dir, keystore) = testing::keystore();
        let dir = keystore.dir().join("challenges");
        let half = paths::challenge(&answer("half"));
        for file in [half.as_str(), &format!(".{half}.new"), "README"] {
            std::fs::write(dir.join(file), "{").unwrap();
        }
        keystore.put_challenge(&answer("one"), Time::from_secs(10)).unwrap();
        assert_eq!(keystore.challenges(Time::from_secs(1)).unwrap(), [answer("one")]);
        let mut left: Vec<_> = std::fs::read_dir(&dir)
            .unwrap()
            .map(|f| f.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        let mut expected =
            vec!["README".to_owned(), paths::challenge(&answer("one")), "lock".into()];
        expected.sort();
        assert_eq!(left, expected);
        let large = ChallengeAnswer { key_authorization: "x".repeat(LIMIT), ..answer("l") };
        assert!(keystore.put_challenge(&large, Time::MAX).is_err());
    }
}
