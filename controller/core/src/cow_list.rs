//! A copy-on-write list: clones share all chunks that neither side has changed.
//!
//! Readers of the state work on a clone, made between two inputs. Both the clone and the next change must be cheap.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cmp::Ordering;
use core::ops::{Index, IndexMut};

/// Number of items copied by the first change after a clone. A smaller number makes each clone more expensive.
const CHUNK: usize = 32;

/// A copy-on-write list in chunks.
#[derive(Clone, Debug)]
pub(crate) struct CowList<T> {
    /// All full except the last.
    chunks: Vec<Arc<Vec<T>>>,
}

impl<T> Default for CowList<T> {
    fn default() -> Self {
        Self { chunks: Vec::new() }
    }
}

impl<T> CowList<T> {
    pub fn len(&self) -> usize {
        self.chunks.last().map_or(0, |last| (self.chunks.len() - 1) * CHUNK + last.len())
    }

    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flat_map(|chunk| chunk.iter()).inspect(|_| count_access())
    }

    /// Returns the index of the item that `compare` finds equal, by binary search.
    pub fn search(&self, mut compare: impl FnMut(&T) -> Ordering) -> Option<usize> {
        let chunk = self.chunks.partition_point(|chunk| chunk.last().is_some_and(|i| compare(i).is_lt()));
        let at = self.chunks.get(chunk)?.binary_search_by(compare).ok()?;
        Some(chunk * CHUNK + at)
    }
}

impl<T: Clone> CowList<T> {
    pub fn push(&mut self, item: T) {
        match self.chunks.last_mut() {
            Some(last) if last.len() < CHUNK => Arc::make_mut(last).push(item),
            _ => {
                let mut chunk = Vec::with_capacity(CHUNK);
                chunk.push(item);
                self.chunks.push(Arc::new(chunk));
            }
        }
    }

    /// Returns every item, mutable. Copies all shared chunks.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.chunks.iter_mut().flat_map(|chunk| Arc::make_mut(chunk).iter_mut()).inspect(|_| count_access())
    }

    /// Removes and returns all items.
    pub fn take(&mut self) -> impl Iterator<Item = T> + use<T> {
        core::mem::take(&mut self.chunks).into_iter().flat_map(Arc::unwrap_or_clone)
    }
}

impl<T> Index<usize> for CowList<T> {
    type Output = T;

    fn index(&self, index: usize) -> &T {
        count_access();
        &self.chunks[index / CHUNK][index % CHUNK]
    }
}

impl<T: Clone> IndexMut<usize> for CowList<T> {
    fn index_mut(&mut self, index: usize) -> &mut T {
        count_access();
        &mut Arc::make_mut(&mut self.chunks[index / CHUNK])[index % CHUNK]
    }
}

/// Counts an access to an item, for the tests of complexity.
fn count_access() {
    #[cfg(test)]
    accesses::COUNT.with(|count| count.set(count.get() + 1));
}

/// Number of accesses by this thread.
#[cfg(test)]
pub(crate) mod accesses {
    use core::cell::Cell;

    std::thread_local! {
        pub(super) static COUNT: Cell<usize> = const { Cell::new(0) };
    }

    /// Returns the number since the last call.
    pub fn take() -> usize {
        COUNT.with(Cell::take)
    }
}

#[cfg(test)]
mod tests {
    use core::cell::Cell;

    use super::*;

    /// An item that counts its clones.
    #[derive(Debug)]
    struct Item<'a>(usize, &'a Cell<usize>);

    impl Clone for Item<'_> {
        fn clone(&self) -> Self {
            self.1.set(self.1.get() + 1);
            Self(self.0, self.1)
        }
    }

    fn list(len: usize, clones: &Cell<usize>) -> CowList<Item<'_>> {
        let mut list = CowList::default();
        for number in 0..len {
            list.push(Item(number, clones));
        }
        list
    }

    #[test]
    fn list_indexes_searches_and_drains() {
        let clones = Cell::new(0);
        for len in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK] {
            let mut list = list(len, &clones);
            assert_eq!(list.len(), len);
            assert!(list.iter().map(|item| item.0).eq(0..len));
            (0..len).for_each(|number| list[number].0 *= 2);
            for number in 0..len {
                assert_eq!(list.search(|item| item.0.cmp(&(2 * number))), Some(number));
                assert_eq!(list.search(|item| item.0.cmp(&(2 * number + 1))), None);
            }
            list.iter_mut().for_each(|item| item.0 += 1);
            assert!(list.take().map(|item| item.0).eq((0..len).map(|number| 2 * number + 1)));
            assert_eq!(list.len(), 0);
        }
        assert_eq!(clones.get(), 0);
    }

    #[test]
    fn change_after_clone_copies_one_chunk() {
        let clones = Cell::new(0);
        let mut list = list(100 * CHUNK, &clones);
        let shown = list.clone();
        assert_eq!(clones.get(), 0);
        list[5].0 = 7;
        list[6].0 = 8;
        assert_eq!((clones.get(), list[5].0, shown[5].0), (CHUNK, 7, 5));
        drop(shown);
        list[50 * CHUNK].0 = 9;
        assert_eq!(clones.get(), CHUNK);
        assert!(list.clone().take().count() == list.len());
    }
}
