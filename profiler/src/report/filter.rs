//! Choosing waits.

use regex::Regex;

use crate::profile::{Profile, Wait};

/// Which waits to keep: those that meet every condition.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// The name of the thread that waited.
    pub sleeper: Option<NamePattern>,
    /// The name of who ended the wait, as [`Waker::label`](crate::profile::Waker::label) has it.
    pub waker: Option<NamePattern>,
    /// If there are any, a frame of either stack matches one of them.
    pub include: Vec<Regex>,
    /// No frame of either stack matches one of them.
    pub exclude: Vec<Regex>,
    /// The shortest time off-CPU of a wait, its intervals in sum, in µs.
    pub min_us: u64,
}

/// A name, or a regular expression for names: whoever has `[irq]` in mind need not know that
/// brackets have a meaning.
#[derive(Clone, Debug)]
pub struct NamePattern {
    text: String,
    regex: Regex,
}

impl NamePattern {
    /// # Errors
    /// When it is no regular expression.
    pub fn new(text: &str) -> Result<Self, regex::Error> {
        Ok(Self { text: text.into(), regex: Regex::new(text)? })
    }
}

impl Filter {
    /// The waits to keep. The targets tell what was chosen, one line for each condition.
    pub fn apply(&self, profile: Profile) -> Profile {
        let conditions = self.conditions();
        if conditions.is_empty() {
            return profile;
        }
        let Profile { mut meta, losses, frames, mut waits, modules } = profile;
        let sleeper =
            Names::new(self.sleeper.as_ref(), &waits, |wait| wait.sleeper.comm.to_string());
        let waker = Names::new(self.waker.as_ref(), &waits, |wait| wait.waker.label());
        let labels: Vec<String> = frames.iter().map(|frame| frame.label()).collect();
        let matching = |patterns: &[Regex]| -> Vec<bool> {
            labels.iter().map(|label| patterns.iter().any(|regex| regex.is_match(label))).collect()
        };
        let (included, excluded) = (matching(&self.include), matching(&self.exclude));
        waits.retain(|wait| {
            let any = |of: &[bool]| {
                wait.sleeper_stack.iter().chain(&wait.waker_stack).any(|id| of[*id as usize])
            };
            wait.off_ns() / 1000 >= self.min_us
                && sleeper.matches(&wait.sleeper.comm)
                && waker.matches(&wait.waker.label())
                && (self.include.is_empty() || any(&included))
                && !any(&excluded)
        });
        if let Some(sampling) = &mut meta.sampling {
            // What each thread has waited for is known as a whole only.
            let is_whole = self.waker.is_none()
                && self.include.is_empty()
                && self.exclude.is_empty()
                && self.min_us == 0;
            sampling.threads.retain(|total| is_whole && sleeper.matches(&total.thread.comm));
        }
        meta.targets.extend(conditions);
        Profile::new(meta, losses, frames, waits).with_modules(modules)
    }

    /// What is chosen, a line for each condition.
    fn conditions(&self) -> Vec<String> {
        let Self { sleeper, waker, include, exclude, min_us } = self;
        let mut conditions = Vec::new();
        if let Some(NamePattern { text, .. }) = sleeper {
            conditions.push(format!("only sleeper {text}"));
        }
        if let Some(NamePattern { text, .. }) = waker {
            conditions.push(format!("only waker {text}"));
        }
        let any = |patterns: &[Regex]| {
            patterns.iter().map(Regex::as_str).collect::<Vec<_>>().join(" or ")
        };
        if !include.is_empty() {
            conditions.push(format!("only with {}", any(include)));
        }
        if !exclude.is_empty() {
            conditions.push(format!("without {}", any(exclude)));
        }
        if *min_us > 0 {
            conditions.push(format!("only from {min_us} µs"));
        }
        conditions
    }
}

/// Which names to keep in a profile.
enum Names<'a> {
    All,
    One(&'a str),
    Matching(&'a Regex),
}

impl<'a> Names<'a> {
    fn new(pattern: Option<&'a NamePattern>, waits: &[Wait], name: fn(&Wait) -> String) -> Self {
        match pattern {
            None => Self::All,
            Some(NamePattern { text, regex }) => {
                if waits.iter().any(|wait| name(wait) == *text) {
                    Self::One(text)
                } else {
                    Self::Matching(regex)
                }
            }
        }
    }

    fn matches(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::One(text) => name == *text,
            Self::Matching(regex) => regex.is_match(name),
        }
    }
}
