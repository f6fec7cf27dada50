//! Room `proxy_wasm`.
