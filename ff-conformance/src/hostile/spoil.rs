//! How a good call is spoiled: one or two changes in its JSON, of every kind that a client, a gateway or an attacker can
//! bring about. Everything is drawn from one generator, so that a seed brings the same call again.

use data_encoding::{BASE64, HEXLOWER};
use fastrand::Rng;
use ff_core::operation::{OpName, Operation};
use serde_json::{Map, Value};

/// A spoiled call: the text that a client sends, and what was done to it.
#[derive(Clone, Debug)]
pub struct Spoiled {
    /// What is sent.
    pub text: String,
    /// What was done, for people. Never a value of the call.
    pub how: String,
}

/// The JSON of a call as its sender writes it: with the token and the secret, which serialisation leaves out.
#[must_use]
pub fn document(operation: &Operation) -> Value {
    let mut document = serde_json::to_value(operation).unwrap_or_default();
    let hidden = match operation {
        Operation::DeliverSignal(args) => Some(("waitpoint_token", args.waitpoint_token.expose().to_owned())),
        Operation::BufferSignal(args) => Some(("waitpoint_token", args.waitpoint_token.expose().to_owned())),
        Operation::RotateWaitpointHmacSecret(args) => Some(("new_secret", HEXLOWER.encode(args.new_secret.expose()))),
        _ => None,
    };
    if let Some((name, text)) = hidden
        && let Some(place) = document.pointer_mut(&format!("/args/{name}"))
    {
        *place = Value::String(text);
    }
    document
}

/// Stands for text that no [`Value`] can hold: it is put in its place when the document is written.
const RAW: &str = "@raw@";

/// Numbers at, and one beyond, every bound of the contract, and what is no number of it at all.
const NUMBERS: &[&str] = &[
    "0",
    "-0",
    "1",
    "-1",
    "2",
    "15",
    "16",
    "17",
    "63",
    "64",
    "65",
    "99",
    "100",
    "101",
    "127",
    "128",
    "255",
    "256",
    "257",
    "999",
    "1000",
    "1001",
    "10000",
    "10001",
    "30001",
    "32767",
    "32768",
    "60000",
    "60001",
    "65535",
    "65536",
    "65537",
    "100000",
    "100001",
    "999999",
    "1000000",
    "1000001",
    "86400000",
    "86400001",
    "90000000",
    "90000001",
    "2592000000",
    "2592000001",
    "31622400000",
    "31622400001",
    "2147483647",
    "2147483648",
    "-2147483648",
    "-2147483649",
    "4294967295",
    "4294967296",
    "9007199254740991",
    "9007199254740992",
    "9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "340282366920938463463374607431768211456",
    "123456789012345678901234567890",
    "-123456789012345678901234567890",
    "0.5",
    "1.0",
    "1.5",
    "1e3",
    "1e15",
    "1e308",
    "1e400",
    "-1e400",
    "1E-5",
    "01",
    "+1",
    "0x10",
    "1_000",
    "NaN",
    "Infinity",
    "\"1\"",
    "\"0\"",
    "\"18446744073709551615\"",
    "١٢٣",
];

/// Lengths at, and one beyond, the bounds of texts, in bytes.
const LENGTHS: &[usize] = &[
    0, 1, 2, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257, 775, 776, 777, 1023, 1024, 1025, 4095, 4096, 4097,
    8192, 8193,
];

/// What a text of such a length is made of: a character of one byte, of more, none that shows, none that is allowed.
const UNITS: &[&str] =
    &["x", "0", "\0", "\u{1f}", " ", "é", "\u{202e}", "😀", "\u{fffd}", ".", "/", "{", "%", "\u{7f}"];

/// Texts that mean something to somebody.
const TEXTS: &[&str] = &[
    "",
    " ",
    "\0",
    "a\0b",
    "\r\nFLUSHALL\r\n",
    "*1\r\n$8\r\nFLUSHALL\r\n",
    "'; DROP TABLE executions; --",
    "../../etc",
    "%s%n%x",
    "%d",
    "%",
    "${x}",
    "{p3}",
    "}:{",
    "__name",
    "__proto__",
    "engine",
    "ff",
    "null",
    "true",
    "nan",
    "-",
    "+",
    "(",
    "*",
    "[",
    "\\",
    "\"",
    "\u{feff}a",
    "e\u{301}",
    "ﬀ",
    "start",
    "end",
    "1-",
    "-1",
    "1-2-3",
    "01",
    "18446744073709551616",
    "18446744073709551615-18446744073709551615",
    "0-0",
    "00000000-0000-0000-0000-000000000000",
    "ffffffff-ffff-ffff-ffff-ffffffffffff",
    "{01890a5d-ac96-774b-bcce-b302099a8057}",
    "01890a5dac96774bbcceb302099a8057",
    "01890A5D-AC96-774B-BCCE-B302099A8057",
    "urn:uuid:01890a5d-ac96-774b-bcce-b302099a8057",
    "plain",
    "a.",
    ".a",
    "a.\u{1}",
    "1a.b",
    "A.b",
    "a,b",
    "a b",
];

/// Partitions as an id spells them: of this deployment, beyond it, beyond u16, and in other spellings.
const PARTITIONS: &[&str] =
    &["0", "1", "4", "255", "256", "257", "16383", "16384", "65535", "65536", "03", "+3", "-3", "", " 3", "3 ", "0x3"];

/// Fields whose text is base64.
const BYTES: &[&str] = &["payload", "result", "continuation"];

/// Spoils a call. `other` is a document of another call, from which parts are taken.
#[must_use]
pub fn spoil(rng: &mut Rng, document: &Value, other: &Value) -> Spoiled {
    let mut spoiler = Spoiler { rng, document: document.clone(), other, raw: None, text: None };
    let mut how = spoiler.change();
    // Now and then two things are wrong at once: then the order of checks decides.
    if spoiler.raw.is_none() && spoiler.text.is_none() && spoiler.rng.u32(0..100) < 12 {
        how = format!("{how}; {}", spoiler.change());
    }
    let mut text = spoiler.text.take().unwrap_or_else(|| spoiler.document.to_string());
    if let Some(raw) = &spoiler.raw {
        text = text.replacen(&format!("\"{RAW}\""), raw, 1);
    }
    Spoiled { text, how }
}

struct Spoiler<'a> {
    rng: &'a mut Rng,
    document: Value,
    other: &'a Value,
    raw: Option<String>,
    text: Option<String>,
}

/// The pointers of every value below `value`.
fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                pointers(inner, &format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")), found);
            }
        }
        Value::Array(list) => {
            for (index, inner) in list.iter().enumerate() {
                pointers(inner, &format!("{at}/{index}"), found);
            }
        }
        _ => {}
    }
}

impl Spoiler<'_> {
    fn pick<'b, T: ?Sized>(&mut self, of: &[&'b T]) -> &'b T {
        of[self.rng.usize(0..of.len())]
    }

    /// A place in the arguments.
    fn place(&mut self, within: &Value) -> String {
        let mut found = Vec::new();
        match within.get("args") {
            Some(args) => pointers(args, "/args", &mut found),
            None => found.push("/args".to_owned()),
        }
        // The whole of the arguments is one place of many: it is spoiled seldom.
        let from = usize::from(found.len() > 1);
        found[self.rng.usize(from..found.len())].clone()
    }

    fn set(&mut self, at: &str, value: Value) {
        if let Some(place) = self.document.pointer_mut(at) {
            *place = value;
        }
    }

    fn set_raw(&mut self, at: &str, raw: String) {
        self.set(at, Value::String(RAW.to_owned()));
        self.raw = Some(raw);
    }

    fn change(&mut self) -> String {
        match self.rng.u32(0..100) {
            0..=2 => self.whole(),
            3..=8 => self.swap(),
            9..=14 => self.foreign(),
            15..=22 => self.another_type(),
            _ => {
                let document = self.document.clone();
                let at = self.place(&document);
                let value = document.pointer(&at).cloned().unwrap_or_default();
                let how = match value {
                    Value::String(text) => self.string(&at, &text),
                    Value::Number(_) => self.number(&at),
                    Value::Array(list) => self.list(&at, &list),
                    Value::Object(map) => self.object(&at, &map),
                    Value::Bool(_) | Value::Null => self.another_value(&at),
                };
                format!("{at}: {how}")
            }
        }
    }

    /// Something of the call itself: its name, its text.
    fn whole(&mut self) -> String {
        match self.rng.u32(0..7) {
            0 => {
                let name = OpName::ALL[self.rng.usize(0..OpName::ALL.len())].as_str();
                self.set("/operation", Value::String(name.to_owned()));
                format!("the arguments are another operation's: {name}")
            }
            1 => {
                self.set("/operation", Value::String("complete_executions".to_owned()));
                "no operation has this name".to_owned()
            }
            2 => {
                let text = self.document.to_string();
                let mut end = self.rng.usize(0..=text.len());
                while !text.is_char_boundary(end) {
                    end -= 1;
                }
                self.text = Some(text[..end].to_owned());
                "the text is cut".to_owned()
            }
            3 => {
                self.text = Some(format!("{} {}", self.document, self.document));
                "the call stands twice".to_owned()
            }
            4 => {
                let levels = self.rng.usize(1..2_000);
                self.set_raw("/args", format!("{}{}", "[".repeat(levels), "]".repeat(levels)));
                "the arguments are a deep list".to_owned()
            }
            5 => {
                let mut bytes = self.document.to_string().into_bytes();
                let at = self.rng.usize(0..bytes.len());
                bytes[at] ^= 1 << self.rng.u32(0..8);
                self.text = Some(String::from_utf8_lossy(&bytes).into_owned());
                "one bit of the text is turned".to_owned()
            }
            _ => {
                self.set("/args", Value::Null);
                "there are no arguments".to_owned()
            }
        }
    }

    /// Two values of one type change places.
    fn swap(&mut self) -> String {
        let document = self.document.clone();
        let (a, b) = (self.place(&document), self.place(&document));
        let (first, second) = (document.pointer(&a).cloned(), document.pointer(&b).cloned());
        if a.starts_with(&b) || b.starts_with(&a) {
            return self.foreign();
        }
        self.set(&a, second.unwrap_or_default());
        self.set(&b, first.unwrap_or_default());
        format!("{a} and {b} change places")
    }

    /// A value of another call.
    fn foreign(&mut self) -> String {
        let (document, other) = (self.document.clone(), self.other.clone());
        let at = self.place(&document);
        let from = match other.pointer(&at) {
            // The same field of another call, if it has it: an id of something else.
            Some(_) if self.rng.bool() => at.clone(),
            _ => self.place(&other),
        };
        let value = other.pointer(&from).cloned().unwrap_or_default();
        self.set(&at, value);
        format!("{at} is {from} of another call")
    }

    fn another_type(&mut self) -> String {
        let document = self.document.clone();
        let at = self.place(&document);
        format!("{at}: {}", self.another_value(&at))
    }

    fn another_value(&mut self, at: &str) -> String {
        let values = ["null", "true", "false", "0", "\"\"", "[]", "{}", "[[]]", "[null]", "{\"\":null}", "\"x\""];
        let mut raw = self.pick(&values).to_owned();
        match self.rng.u32(0..8) {
            0 => raw = self.pick(NUMBERS).to_owned(),
            1 => raw = format!("{{\"after\":{}}}", self.pick(NUMBERS)),
            2 => raw = format!("{{\"at\":{}}}", self.pick(NUMBERS)),
            3 => raw = "\"\\ud800\"".to_owned(),
            4 => raw = Value::String(self.long_text()).to_string(),
            5 => raw = "{\"at\":5,\"after\":5}".to_owned(),
            _ => {}
        }
        let told = if raw.len() > 60 { "something long".to_owned() } else { raw.clone() };
        self.set_raw(at, raw);
        format!("is {told}")
    }

    fn long_text(&mut self) -> String {
        // Much longer texts seldom: they cost, and are refused like any that is too long.
        let length = match self.rng.u32(0..400) {
            0 => (1 << 20) + 1,
            1..=4 => 65_537,
            _ => LENGTHS[self.rng.usize(0..LENGTHS.len())],
        };
        let unit = self.pick(UNITS);
        let mut text = unit.repeat(length / unit.len());
        while text.len() < length {
            text.push('x');
        }
        text
    }

    fn string(&mut self, at: &str, text: &str) -> String {
        let field = at.rsplit('/').next().unwrap_or_default();
        if BYTES.contains(&field) && self.rng.u32(0..100) < 60 {
            return self.bytes(at);
        }
        let id =
            text.split_once('_').filter(|(head, _)| head.len() > 1 && head[1..].bytes().all(|b| b.is_ascii_digit()));
        if let Some((head, uuid)) = id
            && self.rng.u32(0..100) < 45
        {
            let partition = self.pick(PARTITIONS);
            let letter = if self.rng.u32(0..6) == 0 { self.pick(&["e", "f", "E", "x", ""]) } else { &head[..1] };
            self.set(at, Value::String(format!("{letter}{partition}_{uuid}")));
            return format!("an id of {letter}{partition}");
        }
        let mut chars: Vec<char> = text.chars().collect();
        let how = match self.rng.u32(0..16) {
            0..=3 => {
                let long = self.long_text();
                let told = format!("a text of {} bytes", long.len());
                self.set(at, Value::String(long));
                return told;
            }
            4..=7 => {
                let text = self.pick(TEXTS);
                self.set(at, Value::String(text.to_owned()));
                return format!("the text {text:?}");
            }
            8 => {
                chars.push(' ');
                "a blank behind it"
            }
            9 => {
                chars.insert(0, ' ');
                "a blank before it"
            }
            10 => {
                chars = text.to_uppercase().chars().collect();
                "upper case"
            }
            11 => {
                chars.pop();
                "its last character is gone"
            }
            12 if !chars.is_empty() => {
                chars.remove(0);
                "its first character is gone"
            }
            13 => {
                chars.extend(text.chars());
                "twice"
            }
            14 if !chars.is_empty() => {
                let place = self.rng.usize(0..chars.len());
                chars[place] = char::from_u32(u32::from(chars[place]) ^ 1).unwrap_or('\u{fffd}');
                "one bit of it is turned"
            }
            _ => {
                chars.push('\0');
                "a NUL behind it"
            }
        };
        self.set(at, Value::String(chars.into_iter().collect()));
        how.to_owned()
    }

    /// Text that is no base64, and bytes of lengths at and beyond the bounds.
    fn bytes(&mut self, at: &str) -> String {
        if self.rng.u32(0..3) == 0 {
            let text = self.pick(&["=", "A", "AA", "AA=A", "*AAA", "AAA\n", " AAA", "AB==", "____", "AAAA===="]);
            self.set(at, Value::String(text.to_owned()));
            return format!("no base64: {text:?}");
        }
        let length = match self.rng.u32(0..200) {
            0 => 1 << 20,
            1 => (1 << 20) + 1,
            2..=4 => 65_536,
            5..=9 => 65_537,
            _ => [0, 1, 255, 1_023, 1_024, 1_025][self.rng.usize(0..6)],
        };
        let byte = self.rng.u8(..);
        self.set(at, Value::String(BASE64.encode(&vec![byte; length])));
        format!("{length} bytes")
    }

    fn number(&mut self, at: &str) -> String {
        let number = self.pick(NUMBERS);
        self.set_raw(at, number.to_owned());
        number.to_owned()
    }

    fn list(&mut self, at: &str, list: &[Value]) -> String {
        let mut list = list.to_vec();
        let how = match (self.rng.u32(0..7), list.first().cloned()) {
            (0, _) => {
                list.clear();
                "is empty".to_owned()
            }
            (1 | 2, Some(first)) => {
                let count = [2, 17, 33, 65, 257, 1_025][self.rng.usize(0..6)];
                list = vec![first; count];
                format!("one entry {count} times")
            }
            (3 | 4, Some(first)) => {
                let count = [2, 16, 17, 32, 33, 64, 65, 256, 257][self.rng.usize(0..9)];
                list = (0..count).map(|n| distinct(&first, n)).collect();
                format!("{count} different entries")
            }
            (5, Some(first)) => {
                list.push(first);
                "its first entry stands twice".to_owned()
            }
            _ => {
                list = vec![Value::Array(list)];
                "a list within a list".to_owned()
            }
        };
        self.set(at, Value::Array(list));
        how
    }

    fn object(&mut self, at: &str, map: &Map<String, Value>) -> String {
        let mut map = map.clone();
        // A condition nests.
        if map.contains_key("type") && self.rng.bool() {
            return self.nest(at, &map);
        }
        let keys: Vec<String> = map.keys().cloned().collect();
        let Some(key) = (!keys.is_empty()).then(|| keys[self.rng.usize(0..keys.len())].clone()) else {
            map.insert("surprise".to_owned(), Value::Bool(true));
            self.set(at, Value::Object(map));
            return "an unknown field".to_owned();
        };
        let how = match self.rng.u32(0..7) {
            0 | 1 => {
                map.remove(&key);
                format!("without {key}")
            }
            2 => {
                map.insert("surprise".to_owned(), Value::Bool(true));
                "with an unknown field".to_owned()
            }
            3 => {
                let value = map.remove(&key).unwrap_or_default();
                map.insert(key.to_uppercase(), value);
                format!("with {key} in upper case")
            }
            4 => {
                let value = map.get(&key).cloned().unwrap_or_default();
                let whole = Value::Object(map).to_string();
                let twice = format!("{{{}:{value},{}", Value::String(key.clone()), &whole[1..]);
                self.set_raw(at, twice);
                return format!("with {key} twice");
            }
            5 => {
                let count = [17, 64, 65, 257][self.rng.usize(0..4)];
                let value = map.get(&key).cloned().unwrap_or_default();
                for n in 0..count {
                    map.insert(format!("{key}{n}"), value.clone());
                }
                format!("with {count} fields more")
            }
            _ => {
                let value = map.remove(&key).unwrap_or_default();
                let length = LENGTHS[self.rng.usize(0..LENGTHS.len())];
                map.insert(format!("{}{key}", "a".repeat(length)), value);
                format!("with a key of {length} bytes more")
            }
        };
        self.set(at, Value::Object(map));
        how
    }

    /// A node of a condition put into others, deep or wide.
    fn nest(&mut self, at: &str, map: &Map<String, Value>) -> String {
        let word = self.pick(&["all_of", "any_of"]);
        let (levels, width) =
            (self.pick(&[&1_usize, &2, &3, &4, &5, &60, &130]), self.pick(&[&1_usize, &2, &63, &64, &65]));
        // Both at once would be larger than any transport takes.
        let (levels, width) = if *levels > 5 { (*levels, 1) } else { (*levels, *width) };
        let mut node = Value::Object(map.clone());
        for level in 0..levels {
            let children = if level == 0 { vec![node; width] } else { vec![node] };
            node = serde_json::json!({ "type": word, "of": children });
        }
        self.set(at, node);
        format!("in {levels} levels of {word}, {width} wide")
    }
}

/// The same entry under other ids and names.
fn distinct(entry: &Value, n: usize) -> Value {
    match entry {
        Value::String(text) => {
            let tail = format!("{n:012x}");
            match text.len().checked_sub(12) {
                Some(cut) if text.len() >= 36 && text.is_char_boundary(cut) => {
                    Value::String(format!("{}{tail}", &text[..cut]))
                }
                _ => Value::String(format!("{text}{n}")),
            }
        }
        Value::Array(list) => Value::Array(list.iter().map(|inner| distinct(inner, n)).collect()),
        Value::Object(map) => map
            .iter()
            .map(|(key, inner)| {
                let same = inner.is_number() || key == "type" || key == "dependency_kind" || key == "policy";
                (key.clone(), if same { inner.clone() } else { distinct(inner, n) })
            })
            .collect(),
        other => other.clone(),
    }
}
