//! The results of API calls: return values, and requests out of bounds.

/// VPP's error numbers.
pub mod error {
    /// No such routing table.
    pub const NO_SUCH_FIB: i32 = -3;
    /// No such VIP, server or route.
    pub const NO_SUCH_ENTRY: i32 = -6;
    /// Not a power of two.
    pub const INVALID_MEMORY_SIZE: i32 = -70;
    /// Not the encapsulation of the prefix's other ports.
    pub const INVALID_ARGUMENT: i32 = -73;
    /// It exists, or collides with another.
    pub const VALUE_EXIST: i32 = -81;
    /// Not the family of the encapsulation.
    pub const INVALID_ADDRESS_FAMILY: i32 = -97;
}

/// A request beyond the bounds of `maglev-vpp`, which must not send it. It ends the simulator, and fails the test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutOfBounds(pub String);

/// A call's return value: 0, or a negative error number.
pub type CallResult = Result<i32, OutOfBounds>;
