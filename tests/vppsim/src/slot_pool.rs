//! VPP's pools: slots with stable numbers, reused last in, first out.

/// Slots of `T`. A freed slot keeps its value, as in VPP, where stale values are visible in places.
#[derive(Clone, Debug)]
pub struct SlotPool<T> {
    slots: Vec<(T, bool)>,
    free: Vec<usize>,
}

impl<T> Default for SlotPool<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }
}

impl<T> SlotPool<T> {
    /// Allocates a slot. `make` gets the previous value of a reused slot.
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

    /// Frees a slot. Freeing a free slot has no effect.
    pub fn remove(&mut self, index: usize) {
        if let Some((_, used @ true)) = self.slots.get_mut(index) {
            *used = false;
            self.free.push(index);
        }
    }

    /// Returns the value of a slot in use.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&T> {
        self.slots.get(index).filter(|(_, used)| *used).map(|(value, _)| value)
    }

    /// Returns the value of a slot, in use or freed.
    pub fn get_any_mut(&mut self, index: usize) -> Option<&mut T> {
        self.slots.get_mut(index).map(|(value, _)| value)
    }

    /// Returns the slots in use by number.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &T)> + Clone {
        self.slots.iter().enumerate().filter(|(_, (_, used))| *used).map(|(index, (value, _))| (index, value))
    }

    /// Returns the values of all slots, in use or freed.
    pub fn all(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().map(|(value, _)| value)
    }

    /// Returns the number of slots in use.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Returns true if no slot is in use.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_freed_slot_is_reused_first() {
        let mut pool = SlotPool::default();
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
