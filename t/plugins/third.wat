;; Takes configurations of one byte only until three were made, of any length, counted over all threads of the process by
;; a metric: what is fine for whoever checks it, and perhaps for one worker, another worker does not take. Two that count at
;; the same moment may both see three, and both refuse. Longer configurations are always taken.
(module
  (import "env" "proxy_define_metric" (func $define (param i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_increment_metric" (func $increment (param i32 i64) (result i32)))
  (import "env" "proxy_get_metric" (func $get (param i32 i32) (result i32)))

  (memory (export "memory") 1)
  (data (i32.const 16) "configured")
  (global $top (mut i32) (i32.const 1024))

  (func (export "proxy_abi_version_0_2_1"))

  (func (export "proxy_on_memory_allocate") (param $size i32) (result i32)
    (local $start i32)
    (local.set $start (global.get $top))
    (global.set $top (i32.add (global.get $top) (i32.and (i32.add (local.get $size) (i32.const 7)) (i32.const -8))))
    (local.get $start))

  (func (export "proxy_on_context_create") (param $context i32) (param $parent i32))
  (func (export "proxy_on_vm_start") (param $context i32) (param $size i32) (result i32) (i32.const 1))

  (func (export "proxy_on_configure") (param $context i32) (param $size i32) (result i32)
    ;; A counter, whose number is put to 64, and its value to 72.
    (drop (call $define (i32.const 0) (i32.const 16) (i32.const 10) (i32.const 64)))
    (drop (call $increment (i32.load (i32.const 64)) (i64.const 1)))
    (drop (call $get (i32.load (i32.const 64)) (i32.const 72)))
    (i32.or
      (i32.ne (local.get $size) (i32.const 1))
      (i64.lt_u (i64.load (i32.const 72)) (i64.const 3))))

  (func (export "proxy_on_request_headers")
    (param $context i32) (param $headers i32) (param $end_of_stream i32) (result i32)
    (i32.const 0))

  (func (export "proxy_on_done") (param $context i32) (result i32) (i32.const 1))
  (func (export "proxy_on_delete") (param $context i32)))
