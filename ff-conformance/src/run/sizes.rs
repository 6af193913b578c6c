//! How much of each tier is run, and what of it: the command line and the environment.

use std::ffi::OsString;
use std::fmt::Display;
use std::str::FromStr;

use super::Tier;

/// How deep a run goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// What every push runs: minutes.
    Push,
    /// On demand: hours.
    Deep,
}

/// The sizes of one run: [`Sizes::count`] asks for each by the variable that overrides it.
#[derive(Clone, Debug)]
pub struct Sizes {
    /// How deep.
    pub depth: Depth,
    /// `FF_SEED`: the one seed to play, if it was named. What is drawn at random begins with it.
    pub seed: Option<u64>,
}

impl Sizes {
    /// The sizes of this depth; the seed is that of the environment.
    pub(super) fn of(depth: Depth) -> Result<Self, String> {
        Ok(Self { depth, seed: variable("FF_SEED")? })
    }

    /// A number of the run: the environment's, else the default of its depth.
    #[must_use]
    pub fn count(&self, name: &str, push: u64, deep: u64) -> u64 {
        let default = match self.depth {
            Depth::Push => push,
            Depth::Deep => deep,
        };
        match variable(name) {
            Ok(number) => number.unwrap_or(default),
            Err(wrong) => super::wrong_usage(&wrong),
        }
    }
}

/// A variable of the environment: absent, or readable as this type.
fn variable<T: FromStr<Err: Display>>(name: &str) -> Result<Option<T>, String> {
    match std::env::var(name) {
        Ok(text) => text.trim().parse().map(Some).map_err(|e| format!("{name}={text:?} is no number: {e}")),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(e) => Err(format!("{name}: {e}")),
    }
}

/// What the suite itself understands of a command line, and the rest, which is libtest-mimic's.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) tiers: Vec<Tier>,
    pub(super) depth: Depth,
    pub(super) rest: Vec<OsString>,
}

/// Takes `--tier NAME[,NAME]` and `--deep` out of a command line, whose first word is the program.
pub(super) fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Asked, String> {
    let mut asked = Asked { tiers: Vec::new(), depth: Depth::Push, rest: Vec::new() };
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let names = match word.to_str() {
            Some("--deep") => {
                asked.depth = Depth::Deep;
                continue;
            }
            Some("--tier") => words.next().ok_or("--tier needs a name")?.to_string_lossy().into_owned(),
            Some(text) if text.starts_with("--tier=") => text["--tier=".len()..].to_owned(),
            _ => {
                asked.rest.push(word);
                continue;
            }
        };
        for name in names.split(',') {
            let tier = Tier::ALL.iter().find(|tier| tier.as_str() == name);
            let known = || Tier::ALL.iter().map(|tier| tier.as_str()).collect::<Vec<_>>().join(", ");
            asked.tiers.push(*tier.ok_or_else(|| format!("there is no tier {name:?}; there are {}", known()))?);
        }
    }
    if asked.tiers.is_empty() {
        asked.tiers.extend(Tier::ALL);
    }
    Ok(asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Asked, String> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn the_suites_own_words_are_taken_out_and_the_rest_is_left() {
        let asked = parsed("suite --list --tier random,cases lease --deep --skip a").expect("is understood");
        assert_eq!(asked.tiers, [Tier::Random, Tier::Cases]);
        assert_eq!(asked.depth, Depth::Deep);
        assert_eq!(asked.rest, ["suite", "--list", "lease", "--skip", "a"]);
    }

    #[test]
    fn without_a_tier_all_are_meant() {
        let asked = parsed("suite").expect("is understood");
        assert_eq!((asked.tiers.as_slice(), asked.depth), (Tier::ALL, Depth::Push));
    }

    #[test]
    fn an_unknown_tier_is_told_with_those_that_there_are() {
        let wrong = parsed("suite --tier=cases,rndom").expect_err("is not understood");
        assert!(wrong.contains("\"rndom\"") && wrong.contains("cases, random"), "{wrong}");
        assert!(parsed("suite --tier").is_err());
    }
}
