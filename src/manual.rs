//! How the parts fit and why: the manual, kept beside the code.

#![doc = include_str!("manual/overview.md")]

/// Holding one handshake in stock nginx.
pub mod handshake {
    #![doc = include_str!("manual/handshake.md")]
}

/// What is served, and why: hard, soft and off, for administrators.
pub mod policy {
    #![doc = include_str!("manual/policy.md")]
}

/// The image, the demo in containers, and which nginx the module is tested with.
pub mod containers {
    #![doc = include_str!("manual/containers.md")]
}

/// Decisions that were not obvious, one page each.
pub mod decisions {
    #![doc = include_str!("manual/decisions.md")]
}
