//! Forged tokens: none may let its bearer in.

use data_encoding::{BASE64, BASE64URL, BASE64URL_NOPAD, HEXLOWER};
use fastrand::Rng;
use ff_core::contracts::SignalSource;
use ff_core::ids::{ExecutionId, Kid, WaitpointId};
use ff_core::refusal::Code;
use ff_core::token::{self, PartitionKey, PartitionKeys, SigningKey, WaitpointSecret, WaitpointToken};
use uuid::Uuid;

use crate::stage::kid;

/// What a token is made for, and with.
#[derive(Clone, Debug)]
pub(super) struct Ground {
    pub(super) execution_id: ExecutionId,
    pub(super) waitpoint_id: WaitpointId,
    pub(super) source: SignalSource,
    /// Good tokens of this waitpoint: the unbound one, or that of `source`.
    pub(super) good: Vec<WaitpointToken>,
    /// Tokens that are good elsewhere: of other waitpoints, executions and partitions, of retired and unknown keys.
    pub(super) elsewhere: Vec<WaitpointToken>,
    /// Tokens that are good here, for other sources.
    pub(super) others: Vec<WaitpointToken>,
    /// Kids that the partition knows or knew.
    pub(super) kids: Vec<Kid>,
}

/// A forged token and how it came to be.
#[derive(Clone, Debug)]
pub(super) struct Forgery {
    pub(super) token: WaitpointToken,
    pub(super) how: &'static str,
    /// What it must be refused with.
    pub(super) code: Code,
}

const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_+/=. \0\n~";

impl Ground {
    /// Draws a forgery. It is never one of the good tokens.
    pub(super) fn forge(&self, rng: &mut Rng) -> Forgery {
        loop {
            let good = self.good[rng.usize(0..self.good.len())].expose();
            let (how, text) = self.draw(rng, good);
            let token = WaitpointToken::new(text);
            if self.good.contains(&token) {
                continue;
            }
            let bound = self.others.contains(&token);
            return Forgery { token, how, code: if bound { Code::TokenSourceMismatch } else { Code::InvalidToken } };
        }
    }

    #[allow(clippy::too_many_lines)] // a list of forgers
    fn draw(&self, rng: &mut Rng, good: &str) -> (&'static str, String) {
        let parts: Vec<&str> = good.split('.').collect();
        let join = |parts: &[&str]| parts.join(".");
        let mac = BASE64URL_NOPAD.decode(parts.get(2).copied().unwrap_or_default().as_bytes()).unwrap_or_default();
        let with_mac = |mac: &[u8]| {
            let text = BASE64URL_NOPAD.encode(mac);
            let mut parts = parts.clone();
            parts[2] = &text;
            parts.join(".")
        };
        let secret = WaitpointSecret::new(std::array::from_fn(|_| rng.u8(..)));
        let any_kid = self.kids[rng.usize(0..self.kids.len())].clone();
        let source = rng.bool().then(|| self.source.clone());
        match rng.u32(0..26) {
            0..=2 => {
                let mut bytes = good.as_bytes().to_vec();
                let at = rng.usize(0..bytes.len());
                bytes[at] ^= 1 << rng.u32(0..7);
                ("one bit of the text", String::from_utf8_lossy(&bytes).into_owned())
            }
            3..=5 => {
                let mut mac = mac.clone();
                let at = rng.usize(0..mac.len());
                mac[at] ^= 1 << rng.u32(0..8);
                ("one bit of the MAC", with_mac(&mac))
            }
            6 => {
                let mut bytes = good.as_bytes().to_vec();
                let at = rng.usize(0..bytes.len());
                bytes[at] = ALPHABET[rng.usize(0..ALPHABET.len())];
                ("another character", String::from_utf8_lossy(&bytes).into_owned())
            }
            7 => ("cut", good[..rng.usize(0..good.len())].to_owned()),
            8 => {
                let mut text = good.to_owned();
                let letter = char::from(ALPHABET[rng.usize(0..ALPHABET.len())]);
                text.insert(rng.usize(0..=good.len()), letter);
                ("a character more", text)
            }
            9 => {
                let bytes: Vec<u8> = (0..rng.usize(0..65)).map(|_| rng.u8(..)).collect();
                ("a MAC of other bytes", with_mac(&bytes))
            }
            10 => ("a MAC of zeros", with_mac(&[0; 32])),
            11 => ("half the MAC", with_mac(&mac[..16])),
            12 => {
                let text = any_kid.to_string();
                let mut parts = parts.clone();
                parts[1] = &text;
                ("another kid", join(&parts))
            }
            13 => {
                let key = SigningKey::new(any_kid, secret);
                let token = key.mint(self.execution_id, self.waitpoint_id, source.as_ref());
                ("another secret", token.expose().to_owned())
            }
            14..=16 if !self.elsewhere.is_empty() => {
                let token = &self.elsewhere[rng.usize(0..self.elsewhere.len())];
                ("a token that is good elsewhere", token.expose().to_owned())
            }
            17 if !self.others.is_empty() => {
                let token = &self.others[rng.usize(0..self.others.len())];
                ("a token of another source", token.expose().to_owned())
            }
            18 => {
                let mut parts = parts.clone();
                let (text, last) = (BASE64URL.encode(&mac), parts.len() - 1);
                parts[2] = &text;
                let padded = parts.join(".");
                ("padded", if last == 2 || rng.bool() { padded } else { format!("{good}=") })
            }
            19 => {
                let text = BASE64.encode(&mac).trim_end_matches('=').to_owned();
                let mut parts = parts.clone();
                parts[2] = &text;
                // Without `+` or `/` the two alphabets agree: then hex, which never does.
                let hex = HEXLOWER.encode(&mac);
                if text == BASE64URL_NOPAD.encode(&mac) {
                    parts[2] = &hex;
                }
                ("another alphabet", join(&parts))
            }
            20 => {
                // 32 bytes leave two unused bits in the last character: only one of four spellings is canonical.
                let text = parts[2];
                let last = text.bytes().last().and_then(|b| ALPHABET.iter().position(|a| *a == b)).unwrap_or(0);
                let other = ALPHABET[(last & !3) | ((last + 1 + rng.usize(0..3)) & 3)];
                let text = format!("{}{}", &text[..text.len() - 1], char::from(other));
                let mut parts = parts.clone();
                parts[2] = &text;
                ("other unused bits", join(&parts))
            }
            21 => {
                let versions = ["ffw2", "ffw0", "FFW1", "ffw", "ffw01", "", "ffw1 "];
                let mut parts = parts.clone();
                parts[0] = versions[rng.usize(0..versions.len())];
                ("another version", join(&parts))
            }
            22 => {
                let mut claims = Vec::new();
                for field in [self.source.source_type.as_bytes(), self.source.source_identity.as_bytes()] {
                    claims.extend_from_slice(&u32::try_from(field.len()).unwrap_or(0).to_be_bytes());
                    claims.extend_from_slice(field);
                }
                if rng.bool() {
                    claims.push(rng.u8(..));
                }
                let text = BASE64URL_NOPAD.encode(&claims);
                let mut parts = parts[..3].to_vec();
                parts.push(&text);
                ("claims put in", join(&parts))
            }
            23 => {
                let lone = parts[..3].join(".");
                ("claims left out, or a part twice", if lone == good { format!("{good}.{}", parts[2]) } else { lone })
            }
            24 => {
                let mut parts = parts.clone();
                let (a, b) = (rng.usize(0..parts.len()), rng.usize(0..parts.len()));
                parts.swap(a, b);
                ("parts change places", join(&parts))
            }
            _ => {
                let upper = if rng.bool() { good.to_uppercase() } else { good.to_lowercase() };
                let blanks =
                    [format!(" {good}"), format!("{good} "), format!("{good}\n"), format!("{good}{good}"), upper];
                ("blanks, twice, or another case", blanks[rng.usize(0..blanks.len())].clone())
            }
        }
    }
}

/// Judges `count` forgeries by the pure function alone; answers how many reached the MAC, and what was accepted or
/// refused otherwise than it must be.
pub(super) fn judge(seed: u64, count: u64) -> (u64, Vec<String>) {
    let mut rng = Rng::with_seed(seed);
    let (mut reached, mut wrong) = (0, Vec::new());
    let mut field = Field::draw(&mut rng);
    for n in 0..count {
        if n % 500 == 0 {
            field = Field::draw(&mut rng);
            // What shows that the judge can say yes.
            for token in &field.ground.good {
                let Ground { execution_id, waitpoint_id, source, .. } = &field.ground;
                if token::verify(&field.keys, *execution_id, *waitpoint_id, source, token).is_err() {
                    wrong.push(format!("a good token is refused (seed {seed}, forgery {n})"));
                }
            }
        }
        let Forgery { token, how, code } = field.ground.forge(&mut rng);
        let Ground { execution_id, waitpoint_id, source, .. } = &field.ground;
        reached += u64::from(token.kid().is_some_and(|kid| field.keys.key(&kid).is_some()));
        match token::verify(&field.keys, *execution_id, *waitpoint_id, source, &token) {
            Err(refusal) if refusal.code() == code => {}
            Err(refusal) => wrong.push(format!("{how}: {refusal}, not {code:?} (seed {seed}, forgery {n})")),
            Ok(_) => wrong.push(format!("{how}: accepted (seed {seed}, forgery {n})")),
        }
    }
    (reached, wrong)
}

/// A partition's keys, and tokens of them.
struct Field {
    keys: PartitionKeys,
    ground: Ground,
}

impl Field {
    fn draw(rng: &mut Rng) -> Self {
        let mut uuid = || Uuid::from_u128(rng.u128(..));
        let (x, y, w, v) = (uuid(), uuid(), WaitpointId::from_uuid(uuid()), WaitpointId::from_uuid(uuid()));
        let partition = rng.u16(0..256);
        let execution_id = ExecutionId::from_parts(partition, x);
        let mut secret = || WaitpointSecret::new(std::array::from_fn(|_| rng.u8(..)));
        let (current, verifying, retired) = (secret(), secret(), secret());
        let mut keys = PartitionKeys::none(partition);
        keys.current_kid = Some(kid("k2"));
        keys.keys.push(PartitionKey::new(kid("k1"), verifying.clone(), None));
        keys.keys.push(PartitionKey::new(kid("k2"), current.clone(), None));
        let long = rng.bool();
        let name = |text: &str| if long { text.repeat(64) } else { text.to_owned() };
        let source = SignalSource::new(name("team"), name("ann"));
        let other = SignalSource::new(name("team"), name("bob"));
        let bound = rng.bool();
        let source_of = |source: &SignalSource| bound.then(|| source.clone());
        let mint = |name: &str, secret: &WaitpointSecret, x, w, s: &SignalSource| {
            SigningKey::new(kid(name), secret.clone()).mint(x, w, source_of(s).as_ref())
        };
        let good =
            vec![mint("k1", &verifying, execution_id, w, &source), mint("k2", &current, execution_id, w, &source)];
        let others = if bound { vec![mint("k2", &current, execution_id, w, &other)] } else { Vec::new() };
        let elsewhere = vec![
            mint("k2", &current, execution_id, v, &source),
            mint("k2", &current, ExecutionId::from_parts(partition, y), w, &source),
            mint("k2", &current, ExecutionId::from_parts(partition ^ 1, x), w, &source),
            mint("k0", &retired, execution_id, w, &source),
            mint("k2", &verifying, execution_id, w, &source),
            mint("k1", &current, execution_id, w, &source),
            mint("k2", &current, execution_id, WaitpointId::from_uuid(x), &source),
            mint("k2", &current, ExecutionId::from_parts(partition, w.uuid()), WaitpointId::from_uuid(x), &source),
        ];
        let kids = ["k0", "k1", "k2", "K2", "k", "k22", "2026-06_b"].map(kid).to_vec();
        Self { keys, ground: Ground { execution_id, waitpoint_id: w, source, good, elsewhere, others, kids } }
    }
}
