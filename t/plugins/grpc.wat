;; Answers requests with what a gRPC service says. The conf is the upstream's name.
;; `/unary…` sends the path's rest to test.Echo/Unary, within 500 ms, and answers with the reply, or
;; with 502 and the status's words. `/stream` opens test.Echo/Stream, sends `one` and `two`, ends its
;; side, and answers with all that came and the status, once the stream is closed. `/cancel` opens a
;; stream, cancels it at once and goes on.
(module
  (import "env" "proxy_grpc_call"
    (func $grpc_call (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_grpc_stream"
    (func $grpc_stream (param i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_grpc_send" (func $send (param i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_grpc_close" (func $close (param i32) (result i32)))
  (import "env" "proxy_grpc_cancel" (func $cancel (param i32) (result i32)))
  (import "env" "proxy_get_status" (func $status (param i32 i32 i32) (result i32)))
  (import "env" "proxy_get_buffer_bytes" (func $buffer (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_get_header_map_value"
    (func $header (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_set_effective_context" (func $become (param i32) (result i32)))
  (import "env" "proxy_send_local_response"
    (func $respond (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 4)
  ;; 0: pointer and length of the last answer. 8: the upstream's name. 16: the token. 20: the stream
  ;; that waits. 24: bytes gathered so far. 32: a status. 2048: what is gathered. 16384: blocks.
  (data (i32.const 128) "test.Echo")
  (data (i32.const 144) "Unary")
  (data (i32.const 152) "Stream")
  (data (i32.const 160) ":path")
  (data (i32.const 168) "one")
  (data (i32.const 172) "two")
  (data (i32.const 176) "x-init")
  (data (i32.const 184) "x-trail")
  (data (i32.const 192) "\01\00\00\00\06\00\00\00\05\00\00\00x-from\00guest\00")
  (global $top (mut i32) (i32.const 16384))
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_memory_allocate") (param $n i32) (result i32) (local $at i32)
    (if (i32.gt_u (i32.add (global.get $top) (local.get $n)) (i32.const 196608))
      (then (global.set $top (i32.const 32768))))
    (local.set $at (global.get $top))
    (global.set $top (i32.add (global.get $top) (local.get $n)))
    (local.get $at))
  (func (export "proxy_on_configure") (param i32 i32) (result i32)
    (drop (call $buffer (i32.const 7) (i32.const 0) (i32.const 1000) (i32.const 8) (i32.const 12)))
    (i32.const 1))
  ;; Puts the last answer behind what is gathered, and a byte behind that.
  (func $gather (param $last i32)
    (memory.copy (i32.add (i32.const 2048) (i32.load (i32.const 24)))
      (i32.load (i32.const 0)) (i32.load (i32.const 4)))
    (i32.store (i32.const 24) (i32.add (i32.load (i32.const 24)) (i32.load (i32.const 4))))
    (i32.store8 (i32.add (i32.const 2048) (i32.load (i32.const 24))) (local.get $last))
    (i32.store (i32.const 24) (i32.add (i32.load (i32.const 24)) (i32.const 1))))
  (func $answer (param $code i32)
    (drop (call $become (i32.load (i32.const 20))))
    (drop (call $respond (local.get $code) (i32.const 0) (i32.const 0)
      (i32.const 2048) (i32.load (i32.const 24)) (i32.const 0) (i32.const 0) (i32.const -1))))
  (func $open
    (if (call $grpc_stream (i32.load (i32.const 8)) (i32.load (i32.const 12))
          (i32.const 128) (i32.const 9) (i32.const 152) (i32.const 6)
          (i32.const 0) (i32.const 0) (i32.const 16))
      (then unreachable)))
  (func (export "proxy_on_request_headers") (param $stream i32) (param i32 i32) (result i32)
    (i32.store (i32.const 20) (local.get $stream))
    (i32.store (i32.const 24) (i32.const 0))
    (drop (call $header (i32.const 0) (i32.const 160) (i32.const 5) (i32.const 0) (i32.const 4)))
    ;; "/una": the message is what follows "/unary/".
    (if (i32.eq (i32.load (i32.load (i32.const 0))) (i32.const 0x616e752f))
      (then
        (if (call $grpc_call (i32.load (i32.const 8)) (i32.load (i32.const 12))
              (i32.const 128) (i32.const 9) (i32.const 144) (i32.const 5)
              (i32.const 192) (i32.const 25)
              (i32.add (i32.load (i32.const 0)) (i32.const 7))
              (i32.sub (i32.load (i32.const 4)) (i32.const 7))
              (i32.const 500) (i32.const 16))
          (then unreachable))
        (return (i32.const 1))))
    (call $open)
    ;; "/can"
    (if (i32.eq (i32.load (i32.load (i32.const 0))) (i32.const 0x6e61632f))
      (then
        (if (call $cancel (i32.load (i32.const 16))) (then unreachable))
        (return (i32.const 0))))
    (if (call $send (i32.load (i32.const 16)) (i32.const 168) (i32.const 3) (i32.const 0))
      (then unreachable))
    (if (call $send (i32.load (i32.const 16)) (i32.const 172) (i32.const 3) (i32.const 0))
      (then unreachable))
    (if (call $close (i32.load (i32.const 16))) (then unreachable))
    (i32.const 1))
  (func (export "proxy_on_grpc_receive_initial_metadata") (param i32 i32 i32)
    (drop (call $header (i32.const 4) (i32.const 176) (i32.const 6) (i32.const 0) (i32.const 4)))
    (call $gather (i32.const 124)))
  (func (export "proxy_on_grpc_receive") (param $root i32) (param $token i32) (param $len i32)
    (drop (call $buffer (i32.const 5) (i32.const 0) (local.get $len) (i32.const 0) (i32.const 4)))
    (call $gather (i32.const 124))
    ;; A unary call, by its token, is over.
    (if (i32.eq (i32.and (local.get $token) (i32.const 3)) (i32.const 1))
      (then (call $answer (i32.const 200)))))
  (func (export "proxy_on_grpc_receive_trailing_metadata") (param i32 i32 i32)
    (drop (call $header (i32.const 5) (i32.const 184) (i32.const 7) (i32.const 0) (i32.const 4)))
    (call $gather (i32.const 124)))
  (func (export "proxy_on_grpc_close") (param $root i32) (param $token i32) (param $code i32)
    (drop (call $status (i32.const 32) (i32.const 0) (i32.const 4)))
    ;; The status as a letter from `a`, behind its words.
    (call $gather (i32.add (i32.const 97) (local.get $code)))
    (call $answer (select (i32.const 502) (i32.const 200) (local.get $code)))))
