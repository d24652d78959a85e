//! The engine as a whole, against ports that say what the test wants.

mod beside;
mod check;
mod crl;
mod crls;
mod passwords;
mod renewal;
mod replace;
mod schedule;
mod shared;
mod siblings;
mod staple;
mod threads;
mod workers;
mod world;
