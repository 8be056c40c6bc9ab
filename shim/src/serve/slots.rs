//! A table whose keys are never reused, so that a late event for a removed item finds nothing.

/// The key of an item in a [`Slots`].
pub(crate) type Key = u32;

/// Sorted by key, since keys only grow. Items are found by bisection, and the table is as small as its contents.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    items: Vec<(Key, T)>,
    next: Key,
}

impl<T> Slots<T> {
    pub(crate) fn new() -> Self {
        Slots { items: Vec::new(), next: 1 }
    }

    /// The key that the next `insert` returns.
    pub(crate) fn next_key(&self) -> Key {
        self.next
    }

    pub(crate) fn insert(&mut self, item: T) -> Key {
        let key = self.next;
        // A key is reused after four thousand million items; by then the first is long gone.
        self.next = self.next.wrapping_add(1).max(1);
        let place = self.items.partition_point(|(other, _)| *other < key);
        self.items.insert(place, (key, item));
        key
    }

    fn find(&self, key: Key) -> Option<usize> {
        self.items.binary_search_by_key(&key, |(other, _)| *other).ok()
    }

    pub(crate) fn get(&self, key: Key) -> Option<&T> {
        self.items.get(self.find(key)?).map(|(_, item)| item)
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let place = self.find(key)?;
        self.items.get_mut(place).map(|(_, item)| item)
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        let place = self.find(key)?;
        let (_, item) = self.items.remove(place);
        if self.items.capacity() > 16 && self.items.len() < self.items.capacity() / 4 {
            self.items.shrink_to(self.items.len() * 2);
        }
        Some(item)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.items.iter().map(|(key, item)| (*key, item))
    }

    pub(crate) fn keys(&self) -> Vec<Key> {
        self.items.iter().map(|(key, _)| *key).collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::Slots;

    #[test]
    fn a_key_is_never_reused() {
        let mut slots = Slots::new();
        let first = slots.insert('a');
        assert_eq!(slots.next_key(), first + 1);
        let second = slots.insert('b');
        assert_eq!(slots.remove(first), Some('a'));
        let third = slots.insert('c');
        assert!(first < second && second < third);
        assert_eq!(slots.get(first), None);
        assert_eq!(slots.remove(first), None);
        assert_eq!(slots.keys(), [second, third]);
        assert_eq!(slots.get(third), Some(&'c'));
    }
}
