//! Reads typed values out of spanned TOML, reporting what is wrong and going on. Never knows what a key means.

use std::{borrow::Cow, cell::RefCell, ops::Range, rc::Rc};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    sink::{Finding, Sink},
    value::{Bad, quoted},
};

/// Where in the tree of keys something stands. Shared, because every value below a table has the table's path in it.
#[derive(Debug)]
pub(super) struct Place<'t> {
    parent: Option<Rc<Place<'t>>>,
    step: Step<'t>,
    /// `cluster "api"`, where the thing at this place has a name.
    label: Option<String>,
}

#[derive(Debug)]
enum Step<'t> {
    Root,
    Key(Cow<'t, str>),
    Index(usize),
}

impl<'t> Place<'t> {
    /// The whole file.
    pub(super) fn root() -> Rc<Self> {
        Rc::new(Self { parent: None, step: Step::Root, label: None })
    }

    fn child(self: &Rc<Self>, step: Step<'t>) -> Rc<Self> {
        Rc::new(Self { parent: Some(self.clone()), step, label: None })
    }

    /// Such as `cluster[1].endpoints[0].weight`.
    pub(super) fn path(&self) -> String {
        let mut path = self.parent.as_ref().map(|parent| parent.path()).unwrap_or_default();
        match &self.step {
            Step::Root => {}
            Step::Index(index) => path.push_str(&format!("[{index}]")),
            Step::Key(key) => {
                if !path.is_empty() {
                    path.push('.');
                }
                let bare = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
                path.push_str(&if bare { key.to_string() } else { quoted(key) });
            }
        }
        path
    }

    /// The nearest label at or above this place.
    pub(super) fn within(&self) -> Option<String> {
        self.label.clone().or_else(|| self.parent.as_ref()?.within())
    }

    /// What this place is called in a message.
    fn word(&self) -> String {
        match (&self.step, &self.parent) {
            (Step::Root, _) | (_, None) => "the file".to_owned(),
            (Step::Key(key), _) => format!("`{}`", key.escape_debug()),
            (Step::Index(_), Some(parent)) => format!("an element of {}", parent.word()),
        }
    }
}

/// A place and the text that stands there.
#[derive(Debug, Clone)]
pub(super) struct Spot<'t> {
    pub(super) place: Rc<Place<'t>>,
    /// Bytes.
    pub(super) span: Range<usize>,
}

/// A TOML value at its place.
#[derive(Clone)]
pub(super) struct Value<'a> {
    pub(super) spot: Spot<'a>,
    pub(super) sink: &'a Sink<'a>,
    value: &'a DeValue<'a>,
}

/// A TOML table of which keys are taken one by one; [`Table::finish`] reports those that nobody knows.
pub(super) struct Table<'a> {
    pub(super) spot: Spot<'a>,
    pub(super) sink: &'a Sink<'a>,
    map: &'a DeTable<'a>,
    known: RefCell<Vec<&'static str>>,
    later: RefCell<Vec<&'static str>>,
}

impl<'a> Table<'a> {
    /// A whole file.
    pub(super) fn root(map: &'a DeTable<'a>, sink: &'a Sink<'a>) -> Self {
        Self::new(Spot { place: Place::root(), span: 0..0 }, map, sink)
    }

    fn new(spot: Spot<'a>, map: &'a DeTable<'a>, sink: &'a Sink<'a>) -> Self {
        Self { spot, sink, map, known: RefCell::default(), later: RefCell::default() }
    }

    /// The value of a key that may be absent.
    pub(super) fn take(&self, key: &'static str) -> Option<Value<'a>> {
        self.known.borrow_mut().push(key);
        self.map.get_key_value(key).map(|(_, value)| self.value(Cow::Borrowed(key), value))
    }

    /// The value of a key that must be there; its absence is reported with what was `expected`.
    pub(super) fn require(&self, key: &'static str, expected: &str) -> Option<Value<'a>> {
        let value = self.take(key);
        if value.is_none() {
            let message = format!("`{key}` is missing");
            self.sink.report(Finding::absence(&self.spot, message).expected(format!("`{key}` = {expected}")));
        }
        value
    }

    /// The table of a key; where it is absent, none.
    pub(super) fn table(&self, key: &'static str, expected: &str) -> Option<Table<'a>> {
        self.take(key)?.table(expected)
    }

    /// Whether the key is not there, or an array without elements.
    pub(super) fn is_empty(&self, key: &str) -> bool {
        self.map.get(key).is_none_or(|value| value.get_ref().as_array().is_some_and(|items| items.is_empty()))
    }

    /// Keys of the product's contract that this version does not implement: their use is an error of its own.
    pub(super) fn later(&self, keys: &[&'static str]) {
        self.later.borrow_mut().extend(keys);
    }

    /// Every key and value, in file order. For tables whose keys are the user's own words; not to be mixed with `take`.
    pub(super) fn entries(&self) -> Vec<(Spot<'a>, &'a str, Value<'a>)> {
        let mut entries: Vec<_> = self.map.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        let entry = |(key, value): (&'a Spanned<Cow<'a, str>>, &'a Spanned<DeValue<'a>>)| {
            let value = self.value(Cow::Borrowed(key.get_ref()), value);
            (Spot { place: value.spot.place.clone(), span: key.span() }, key.get_ref().as_ref(), value)
        };
        entries.into_iter().map(entry).collect()
    }

    /// Reports the keys that are there and that nobody took.
    pub(super) fn finish(self) {
        let (known, later) = (self.known.take(), self.later.take());
        for (key, _) in self.map.iter() {
            let name: &str = key.get_ref();
            let place = self.spot.place.child(Step::Key(Cow::Borrowed(name)));
            let spot = Spot { place, span: key.span() };
            if known.contains(&name) {
                continue;
            }
            if later.contains(&name) {
                self.sink.report(unsupported(&spot, name));
                continue;
            }
            let near = self.sink.nearest(name, known.iter().copied());
            let finding = Finding::error(&spot, format!("unknown key {}", quoted(name)));
            self.sink.report(finding.expected(list(&known)).did_you_mean(near));
        }
    }

    fn value(&self, key: Cow<'a, str>, value: &'a Spanned<DeValue<'a>>) -> Value<'a> {
        let spot = Spot { place: self.spot.place.child(Step::Key(key)), span: value.span() };
        Value { spot, value: value.get_ref(), sink: self.sink }
    }
}

/// The finding that a word of the contract is not implemented here.
pub(super) fn unsupported(spot: &Spot<'_>, word: &str) -> Finding {
    Finding::error(spot, format!("`{word}` is not supported by this version of Witgate"))
        .help("leave it out, or use a version that supports it")
}

impl<'a> Value<'a> {
    /// A string.
    pub(super) fn string(&self, expected: &str) -> Option<&'a str> {
        match self.value {
            DeValue::String(text) => Some(text),
            _ => self.wrong_type("a string", expected),
        }
    }

    /// A string that `read` understands.
    pub(super) fn parse<T>(&self, expected: &str, read: impl FnOnce(&str) -> Result<T, Bad>) -> Option<T> {
        let text = match self.value {
            DeValue::String(text) => text,
            // A number where a duration or a size is meant: `read` knows best what to propose.
            DeValue::Integer(number) => {
                let help = read(number.as_str()).err().and_then(|bad| bad.help);
                return self.wrong_type_with("a string", expected, help);
            }
            _ => return self.wrong_type("a string", expected),
        };
        match read(text) {
            Ok(value) => Some(value),
            Err(bad) => self.bad(bad, expected),
        }
    }

    /// One of a list of words.
    pub(super) fn word<T: Copy>(&self, words: &[(&'static str, T)]) -> Option<T> {
        let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
        self.word_or(words, &list(&names).replace('`', "\""), |_| None)
    }

    /// One of a list of words where more than words is `expected`. `meant` knows what else may have been meant by a word
    /// that is near to none of them.
    pub(super) fn word_or<T: Copy>(
        &self,
        words: &[(&'static str, T)],
        expected: &str,
        meant: impl FnOnce(&str) -> Option<String>,
    ) -> Option<T> {
        let text = self.string(expected)?;
        if let Some((_, value)) = words.iter().find(|(name, _)| *name == text) {
            return Some(*value);
        }
        let near = self.sink.nearest(text, words.iter().map(|(name, _)| *name)).map(|near| format!("\"{near}\""));
        let help = near.or_else(|| meant(text)).map(|meant| format!("did you mean {meant}?"));
        self.bad(Bad { message: format!("{} is none of the accepted words", quoted(text)), help }, expected)
    }

    /// A boolean.
    pub(super) fn boolean(&self) -> Option<bool> {
        match self.value {
            DeValue::Boolean(value) => Some(*value),
            _ => self.wrong_type("a boolean", "true or false"),
        }
    }

    /// An integer in a range.
    pub(super) fn integer<N>(&self, range: std::ops::RangeInclusive<N>) -> Option<N>
    where
        N: TryFrom<i128> + Into<i128> + Copy + std::fmt::Display,
    {
        let (least, most): (i128, i128) = ((*range.start()).into(), (*range.end()).into());
        let expected = format!("an integer from {least} to {most}");
        let DeValue::Integer(number) = self.value else {
            return self.wrong_type("an integer", &expected);
        };
        let parsed = i128::from_str_radix(number.as_str(), number.radix()).ok();
        let within = parsed.filter(|n| (least..=most).contains(n)).and_then(|n| N::try_from(n).ok());
        if within.is_none() {
            let message = format!("{} is out of range", clip(&number.to_string()));
            return self.bad(Bad { message, help: None }, &expected);
        }
        within
    }

    /// A number in a range, whole or not.
    pub(super) fn number(&self, range: std::ops::RangeInclusive<f64>) -> Option<f64> {
        let expected = format!("a number from {} to {}", range.start(), range.end());
        let text = match self.value {
            DeValue::Integer(number) => number.to_string(),
            DeValue::Float(number) => number.to_string(),
            _ => return self.wrong_type("a number", &expected),
        };
        let within = text.parse().ok().filter(|number| range.contains(number));
        if within.is_none() {
            return self.bad(Bad { message: format!("{} is out of range", clip(&text)), help: None }, &expected);
        }
        within
    }

    /// The elements of an array of at most `most`.
    pub(super) fn array(&self, most: usize, expected: &str) -> Option<Vec<Value<'a>>> {
        let DeValue::Array(items) = self.value else {
            return self.wrong_type("an array", expected);
        };
        if items.len() > most {
            let message = format!("{} has {} elements", self.spot.place.word(), items.len());
            self.sink.report(Finding::error(&self.spot, message).expected(format!("at most {most}")));
        }
        let element = |(index, value): (usize, &'a Spanned<DeValue<'a>>)| {
            let spot = Spot { place: self.spot.place.child(Step::Index(index)), span: value.span() };
            Value { spot, value: value.get_ref(), sink: self.sink }
        };
        Some(items.iter().enumerate().take(most).map(element).collect())
    }

    /// A table.
    pub(super) fn table(&self, expected: &str) -> Option<Table<'a>> {
        match self.value {
            DeValue::Table(map) => Some(Table::new(self.spot.clone(), map, self.sink)),
            _ => self.wrong_type("a table", expected),
        }
    }

    /// A table that has a `name`, which diagnostics about it show after `kind`.
    pub(super) fn named_table(&self, kind: &str, expected: &str) -> Option<Table<'a>> {
        let mut table = self.table(expected)?;
        if let Some(DeValue::String(name)) = table.map.get("name").map(|name| name.get_ref()) {
            let Place { parent, step, .. } = &*self.spot.place;
            let step = match step {
                Step::Root => Step::Root,
                Step::Key(key) => Step::Key(key.clone()),
                Step::Index(index) => Step::Index(*index),
            };
            let label = Some(format!("{kind} {}", quoted(name)));
            table.spot.place = Rc::new(Place { parent: parent.clone(), step, label });
        }
        Some(table)
    }

    /// The TOML itself.
    pub(super) fn raw(&self) -> &'a DeValue<'a> {
        self.value
    }

    /// Whether it is a string.
    pub(super) fn is_string(&self) -> bool {
        self.value.is_str()
    }

    /// Reports a value of the right type that is wrong all the same.
    pub(super) fn bad<T>(&self, bad: Bad, expected: &str) -> Option<T> {
        let finding = Finding::error(&self.spot, format!("bad {}: {}", self.noun(), bad.message)).expected(expected);
        self.sink.report(match bad.help {
            Some(help) => finding.help(help),
            None => finding,
        });
        None
    }

    /// Reports a value of another type.
    pub(super) fn wrong_type<T>(&self, must: &str, expected: &str) -> Option<T> {
        self.wrong_type_with(must, expected, None)
    }

    /// Adds a finding.
    pub(super) fn report(&self, finding: Finding) {
        self.sink.report(finding);
    }

    fn wrong_type_with<T>(&self, must: &str, expected: &str, help: Option<String>) -> Option<T> {
        let message = format!("{} must be {must}, not {}", self.spot.place.word(), article(self.value));
        let finding = Finding::error(&self.spot, message).expected(expected);
        self.sink.report(match help {
            Some(help) => finding.help(help),
            None => finding,
        });
        None
    }

    fn noun(&self) -> String {
        self.spot.place.word().trim_start_matches("an ").to_owned()
    }
}

/// `` `a`, `b` or `c` ``.
pub(super) fn list(words: &[&str]) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match words.split_last() {
        None => "nothing".to_owned(),
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
    }
}

fn article(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

fn clip(digits: &str) -> String {
    if digits.len() > 40 { format!("{}…", digits.chars().take(40).collect::<String>()) } else { digits.to_owned() }
}
