//! VPP's pools: slots with stable numbers, of which the last one freed is the first one taken again.

/// Slots of `T`. A freed slot keeps what it held, as it does in VPP, where leftovers show through in places.
#[derive(Clone, Debug)]
pub struct Pool<T> {
    slots: Vec<(T, bool)>,
    free: Vec<usize>,
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }
}

impl<T> Pool<T> {
    /// Takes a slot. `make` is shown what the slot held before, if it is not a new one.
    pub fn insert(&mut self, make: impl FnOnce(Option<&T>) -> T) -> usize {
        match self.free.pop() {
            Some(index) => {
                let value = make(Some(&self.slots[index].0));
                self.slots[index] = (value, true);
                index
            }
            None => {
                self.slots.push((make(None), true));
                self.slots.len() - 1
            }
        }
    }

    /// Frees a slot. Does nothing to one that is free.
    pub fn remove(&mut self, index: usize) {
        if let Some((_, used @ true)) = self.slots.get_mut(index) {
            *used = false;
            self.free.push(index);
        }
    }

    /// What a slot in use holds.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&T> {
        self.slots.get(index).filter(|(_, used)| *used).map(|(value, _)| value)
    }

    /// What a slot holds, or held before it was freed.
    pub fn get_any_mut(&mut self, index: usize) -> Option<&mut T> {
        self.slots.get_mut(index).map(|(value, _)| value)
    }

    /// The slots in use, in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &T)> + Clone {
        self.slots.iter().enumerate().filter(|(_, (_, used))| *used).map(|(index, (value, _))| (index, value))
    }

    /// What each slot holds, or held before it was freed.
    pub fn all(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().map(|(value, _)| value)
    }

    /// How many slots are in use.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether no slot is in use.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_slot_freed_is_taken_first() {
        let mut pool = Pool::default();
        for name in ["a", "b", "c", "d"] {
            pool.insert(|_| name);
        }
        pool.remove(1);
        pool.remove(3);
        let mut leftovers = Vec::new();
        let taken: Vec<_> = (0..3)
            .map(|_| {
                pool.insert(|old| {
                    leftovers.push(old.copied());
                    "new"
                })
            })
            .collect();
        assert_eq!(taken, [3, 1, 4]);
        assert_eq!(leftovers, [Some("d"), Some("b"), None]);
    }
}
