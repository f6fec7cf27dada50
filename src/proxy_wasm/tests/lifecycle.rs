//! Load, start, answer.

use super::rig::lines;
use super::{Rig, settings};
use crate::plugin::Action;

/// Answers every request with 418.
pub(super) const MINIMAL: &str = r#"(module
    (import "env" "proxy_send_local_response"
        (func $respond (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 64) "short and stout")
    (func (export "proxy_abi_version_0_2_1"))
    (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 1024))
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (call $respond (i32.const 418) (i32.const 0) (i32.const 0) (i32.const 64) (i32.const 15)
            (i32.const 0) (i32.const 0) (i32.const -1))))"#;

#[test]
fn a_minimal_plugin_answers() {
    let mut rig = Rig::with(settings(MINIMAL));
    assert_eq!(rig.request_headers(), Action::Respond);
    assert_eq!(rig.message.local.status, 418);
    assert_eq!(rig.message.local.body.as_deref(), Some(&b"short and stout"[..]));
    rig.log();
    assert_eq!(lines(), [""; 0]);
}
