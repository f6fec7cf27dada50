;; Asks an upstream about each request before it goes on. The conf is the upstream's name; what is
;; sent goes to `/check`, within 400 ms. A reply of 200 lets the request on with the field `x-auth`
;; set to the reply's body; any other reply's body is the answer, with 403; no reply is a 503.
;; A request to `/twice` asks twice and goes on with the first reply.
(module
  (import "env" "proxy_http_call"
    (func $http_call (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_get_buffer_bytes" (func $buffer (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_get_header_map_value"
    (func $header (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_add_header_map_value" (func $add (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_set_effective_context" (func $become (param i32) (result i32)))
  (import "env" "proxy_continue_stream" (func $continue (param i32) (result i32)))
  (import "env" "proxy_send_local_response"
    (func $respond (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 4)
  ;; 0: pointer and length of the last answer. 8: the upstream's name. 16: the last token.
  ;; 1024: for each token / 4 (modulo 1,024) the stream that waits for it. 16384: blocks.
  (data (i32.const 128) "\03\00\00\00\07\00\00\00\03\00\00\00\05\00\00\00\06\00\00\00\0a\00\00\00\04\00\00\00:method\00GET\00:path\00/check\00:authority\00auth\00")
  (data (i32.const 256) ":status")
  (data (i32.const 264) "x-auth")
  (data (i32.const 272) "no reply")
  (data (i32.const 280) ":path")
  (global $top (mut i32) (i32.const 16384))
  (func (export "proxy_abi_version_0_2_1"))
  ;; Blocks are used again from the start once the page after them is reached.
  (func $allocate (export "proxy_on_memory_allocate") (param $n i32) (result i32) (local $at i32)
    (if (i32.gt_u (i32.add (global.get $top) (local.get $n)) (i32.const 196608))
      (then (global.set $top (i32.const 32768))))
    (local.set $at (global.get $top))
    (global.set $top (i32.add (global.get $top) (local.get $n)))
    (local.get $at))
  (func (export "proxy_on_configure") (param i32 i32) (result i32)
    (drop (call $buffer (i32.const 7) (i32.const 0) (i32.const 1000) (i32.const 8) (i32.const 12)))
    (i32.const 1))
  (func $place (param $token i32) (result i32)
    (i32.add (i32.const 1024)
      (i32.and (local.get $token) (i32.const 4092))))
  (func $ask (param $stream i32)
    (if (call $http_call (i32.load (i32.const 8)) (i32.load (i32.const 12))
          (i32.const 128) (i32.const 69) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
          (i32.const 400) (i32.const 16))
      (then unreachable))
    (i32.store (call $place (i32.load (i32.const 16))) (local.get $stream)))
  (func (export "proxy_on_request_headers") (param $stream i32) (param i32 i32) (result i32)
    (call $ask (local.get $stream))
    (drop (call $header (i32.const 0) (i32.const 280) (i32.const 5) (i32.const 0) (i32.const 4)))
    ;; "/twi"
    (if (i32.eq (i32.load (i32.load (i32.const 0))) (i32.const 0x6977742f))
      (then (call $ask (local.get $stream))))
    (i32.const 1))
  (func (export "proxy_on_http_call_response")
    (param $root i32) (param $token i32) (param $headers i32) (param $body i32) (param i32)
    (if (call $become (i32.load (call $place (local.get $token))))
      (then return))
    (if (i32.eqz (local.get $headers))
      (then
        (drop (call $respond (i32.const 503) (i32.const 0) (i32.const 0)
          (i32.const 272) (i32.const 8) (i32.const 0) (i32.const 0) (i32.const -1)))
        (return)))
    (drop (call $header (i32.const 6) (i32.const 256) (i32.const 7) (i32.const 0) (i32.const 4)))
    ;; "200", as the first three bytes.
    (if (i32.eq (i32.and (i32.load (i32.load (i32.const 0))) (i32.const 0xffffff))
                (i32.const 0x303032))
      (then
        (drop (call $buffer (i32.const 4) (i32.const 0) (local.get $body) (i32.const 0) (i32.const 4)))
        (drop (call $add (i32.const 0) (i32.const 264) (i32.const 6)
          (i32.load (i32.const 0)) (i32.load (i32.const 4))))
        (drop (call $continue (i32.const 0))))
      (else
        (drop (call $buffer (i32.const 4) (i32.const 0) (local.get $body) (i32.const 0) (i32.const 4)))
        (drop (call $respond (i32.const 403) (i32.const 0) (i32.const 0)
          (i32.load (i32.const 0)) (i32.load (i32.const 4))
          (i32.const 0) (i32.const 0) (i32.const -1)))))))
