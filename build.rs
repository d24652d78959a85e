//! Tells the adapter which nginx it is built for. Silent without the feature `module`.

fn main() {
    println!("cargo::rustc-check-cfg=cfg(nginx_quic, nginx_regex, nginx_ssl_on)");
    println!("cargo::rustc-check-cfg=cfg(nginx_certificate_compression)");
    #[cfg(feature = "module")]
    module::configure();
}

#[cfg(feature = "module")]
mod module {
    use std::env;
    use std::path::PathBuf;

    /// Event flags are macros over system constants (EPOLLIN | EPOLLRDHUP ...) that nginx-sys
    /// does not carry: the compiler works them out for the nginx that we build against.
    const EVENT_FLAGS: &str = "
        #include <ngx_config.h>
        #include <ngx_core.h>
        #include <ngx_event.h>
        static const unsigned long long READ_EVENT = NGX_READ_EVENT;
        static const unsigned long long CLEAR_EVENT = NGX_CLEAR_EVENT;
    ";

    pub fn configure() {
        println!("cargo::rerun-if-changed=build.rs");
        // OpenSSL keeps pointers to our callbacks and threads run our code: nginx's dlclose()
        // must not unmap us.
        println!("cargo::rustc-link-arg=-Wl,-z,nodelete");
        let features = env::var("DEP_NGINX_FEATURES").unwrap_or_default();
        for (feature, cfg) in [("quic", "nginx_quic"), ("pcre2", "nginx_regex")] {
            if features.split(',').any(|f| f == feature) {
                println!("cargo::rustc-cfg={cfg}");
            }
        }
        let version = env::var("DEP_NGINX_VERSION_NUMBER").unwrap_or_default();
        if version.parse::<u32>().is_ok_and(|v| v < 1_025_001) {
            println!("cargo::rustc-cfg=nginx_ssl_on");
        }
        if version.parse::<u32>().is_ok_and(|v| v >= 1_029_001) {
            println!("cargo::rustc-cfg=nginx_certificate_compression");
        }
        event_flags();
    }

    fn event_flags() {
        let includes = env::var_os("DEP_NGINX_INCLUDE").unwrap_or_default();
        let flags = env::var("DEP_NGINX_CFLAGS").unwrap_or_default();
        let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
        bindgen::Builder::default()
            .header_contents("event_flags.h", EVENT_FLAGS)
            .clang_args(env::split_paths(&includes).map(|i| format!("-I{}", i.display())))
            .clang_args(flags.split_whitespace())
            .allowlist_var("READ_EVENT|CLEAR_EVENT")
            .generate()
            .expect("bindgen reads nginx's headers")
            .write_to_file(out.join("event_flags.rs"))
            .expect("OUT_DIR is writable");
    }
}
