//! First in, first out, one entry per key: the partition's backlog, and the work list of one call.

use std::collections::{BTreeMap, HashMap};

use ff_core::contracts::BacklogKind;
use uuid::Uuid;

/// What an item is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// An execution.
    Execution(Uuid),
    /// A flow.
    Flow(Uuid),
}

/// The identity of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ItemKey {
    /// What is to be done.
    pub kind: BacklogKind,
    /// To whom.
    pub subject: Subject,
}

/// The last candidate that was examined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cursor {
    /// An edge, by seq.
    Edge(u64),
    /// A member, by id.
    Member(Uuid),
}

/// One item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item {
    /// What and to whom.
    pub key: ItemKey,
    /// The last candidate examined; none at first.
    pub cursor: Option<Cursor>,
    /// Whether skipped descendants are replayed.
    pub reopen: bool,
}

impl Item {
    /// An item without a cursor.
    #[must_use]
    pub const fn new(kind: BacklogKind, subject: Subject, reopen: bool) -> Self {
        Self { key: ItemKey { kind, subject }, cursor: None, reopen }
    }
}

/// Items in order.
#[derive(Clone, Debug, Default)]
pub struct Fifo {
    places: HashMap<ItemKey, u64>,
    items: BTreeMap<u64, Item>,
    next: u64,
}

impl PartialEq for Fifo {
    /// The same items in the same order: places are numbers without meaning.
    fn eq(&self, other: &Self) -> bool {
        self.items.values().eq(other.items.values())
    }
}

impl Fifo {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// The first.
    #[must_use]
    pub fn head(&self) -> Option<Item> {
        self.items.first_key_value().map(|(_, item)| *item)
    }

    /// The one with this key.
    #[must_use]
    pub fn get(&self, key: &ItemKey) -> Option<Item> {
        self.places.get(key).and_then(|place| self.items.get(place)).copied()
    }

    /// In order.
    pub fn iter(&self) -> impl Iterator<Item = &Item> {
        self.items.values()
    }

    /// Puts an item that begins anew at the tail; one with its key keeps its place and loses its cursor, and `reopen`
    /// is or-ed. Says whether it is new.
    pub fn restart(&mut self, item: Item) -> bool {
        if let Some(known) = self.places.get(&item.key).and_then(|place| self.items.get_mut(place)) {
            known.cursor = None;
            known.reopen |= item.reopen;
            return false;
        }
        self.push(item);
        true
    }

    /// Puts an item that stopped in mid-work at the tail; one with its key keeps its place and takes its cursor, and
    /// `reopen` is or-ed. Says whether it is new.
    pub fn resume(&mut self, item: Item) -> bool {
        if let Some(known) = self.places.get(&item.key).and_then(|place| self.items.get_mut(place)) {
            known.cursor = item.cursor;
            known.reopen |= item.reopen;
            return false;
        }
        self.push(item);
        true
    }

    fn push(&mut self, item: Item) {
        self.places.insert(item.key, self.next);
        self.items.insert(self.next, item);
        self.next += 1;
    }

    /// Moves an item's cursor.
    pub fn advance(&mut self, key: &ItemKey, cursor: Cursor) {
        if let Some(item) = self.places.get(key).and_then(|place| self.items.get_mut(place)) {
            item.cursor = Some(cursor);
        }
    }

    /// Takes an item away.
    pub fn remove(&mut self, key: &ItemKey) -> Option<Item> {
        let place = self.places.remove(key)?;
        let item = self.items.remove(&place);
        if self.items.is_empty() {
            // Places mean nothing once nobody has one; two empty lists are equal.
            self.next = 0;
        }
        item
    }

    /// Moves an item to the tail.
    pub fn yield_place(&mut self, key: &ItemKey) {
        if let Some(place) = self.places.remove(key)
            && let Some(item) = self.items.remove(&place)
        {
            self.push(item);
        }
    }
}
