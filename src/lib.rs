#[cfg(feature = "module")]
mod nginx;
