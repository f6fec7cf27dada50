;; Keeps a request's body until its trailers are there, then asks the upstream `auth` whether they may
;; pass. A reply of 2xx lets everything on with the trailer `x-sig` set to `seen`; any other is a 403.
(module
  (import "env" "proxy_http_call"
    (func $http_call (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_get_header_map_value"
    (func $header (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_replace_header_map_value"
    (func $replace (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_set_effective_context" (func $become (param i32) (result i32)))
  (import "env" "proxy_continue_stream" (func $continue (param i32) (result i32)))
  (import "env" "proxy_send_local_response"
    (func $respond (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  ;; 0: pointer and length of the last answer. 16: the last token. 32: the stream that waits.
  (data (i32.const 64) "auth")
  (data (i32.const 128) "\03\00\00\00\07\00\00\00\03\00\00\00\05\00\00\00\04\00\00\00\0a\00\00\00\04\00\00\00:method\00GET\00:path\00/bad\00:authority\00auth\00")
  (data (i32.const 256) ":status")
  (data (i32.const 272) "x-sig")
  (data (i32.const 288) "seen")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 4096))
  (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32) (i32.const 1))
  (func (export "proxy_on_request_trailers") (param $stream i32) (param i32) (result i32)
    (i32.store (i32.const 32) (local.get $stream))
    (if (call $http_call (i32.const 64) (i32.const 4) (i32.const 128) (i32.const 67)
          (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 4000) (i32.const 16))
      (then unreachable))
    (i32.const 1))
  (func (export "proxy_on_http_call_response") (param i32 i32 i32 i32 i32)
    (if (call $become (i32.load (i32.const 32))) (then unreachable))
    ;; The trailers are there to be read while they wait.
    (if (call $header (i32.const 1) (i32.const 272) (i32.const 5) (i32.const 0) (i32.const 4))
      (then unreachable))
    (drop (call $header (i32.const 6) (i32.const 256) (i32.const 7) (i32.const 0) (i32.const 4)))
    (if (i32.eq (i32.load8_u (i32.load (i32.const 0))) (i32.const 0x32))
      (then
        (drop (call $replace (i32.const 1) (i32.const 272) (i32.const 5) (i32.const 288) (i32.const 4)))
        (drop (call $continue (i32.const 0))))
      (else
        (drop (call $respond (i32.const 403) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
          (i32.const 0) (i32.const 0) (i32.const -1)))))))
