pub struct Keystore;
impl Keystore {
    pub fn create(_: &std::path::Path, _: Option<(u32, u32)>) -> Result<(), String> {
        Ok(())
    }
}
