//! The public vectors.

mod folder;
mod ocsp;
mod outcome;
