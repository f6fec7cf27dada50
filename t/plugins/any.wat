;; A guest that makes any host call, with any arguments, from any callback: what it does is written in its VM
;; configuration or, if that is empty, in its plugin configuration. `any.rs` beside this file writes such programs, and
;; puts one import, one caller and one export for each function and callback of the ABI where the comments say so.
;;
;;   address
;;   0x00000  nothing
;;   0x00010  ANSWER   what the last call answered
;;   0x00020  ARGS     the next call's arguments: words in order, an i64 takes two
;;   0x00100  FREE     for programs to poke bytes to and to have results written to
;;   0x08000  ANSWERS  what all calls of this callback answered, a word each
;;   0x0f000  ROOTS    a byte for each context id below 4,096: 1 if it is a root
;;   0x10000  PROGRAM  the program, decoded
;;   0x18000  LINE     the line being said
;;   0x20000  HEAP     from here to 0x80000, empty again at each callback
;;
;; A program is hexadecimal text, two digits a byte, and means little-endian words:
;;
;;   section:  callback  words  step ...          what to do in that callback, or in all but the allocator if it is -1
;;   step:     1 function                          call it
;;             2 address length bytes...           poke bytes, padded to whole words
;;             3 to from length                    copy bytes
;;             4 address length                    say bytes, in hexadecimal, in a log line
;;             5 at                                the same for the bytes whose address and length are at `at`
;;             6                                   say ANSWERS
;;             7 value                             return this value, if the callback returns one
;;             8                                   trap
;;             9                                   loop without end
;;            10 pages                             grow the memory; the answer is what memory.grow gives
;;            11                                   call oneself without end
;;            12 value words                       if the last answer is not `value`, skip so many words
(module
  ;; IMPORTS

  (memory (export "memory") 8)
  ;; The table of callers: each takes its function's arguments from ARGS and puts the answer at ANSWER.
  ;; CALLERS

  (global $heap (mut i32) (i32.const 0x20000))
  (global $loaded (mut i32) (i32.const 0))
  ;; The end of PROGRAM and of ANSWERS.
  (global $program_end (mut i32) (i32.const 0x10000))
  (global $answers_end (mut i32) (i32.const 0x8000))
  ;; What the running callback returns.
  (global $value (mut i32) (i32.const 0))
  ;; The callback that runs, for log lines.
  (global $callback (mut i32) (i32.const 0))
  ;; 1 while the allocator is as any other: while a program is loaded, and inside of the allocator itself.
  (global $plain (mut i32) (i32.const 0))

  ;; Gives blocks of exactly the size asked for, one after the other; 0 when there is no room.
  (func $bump (param $size i32) (result i32) (local $at i32)
    (if (i32.gt_u (local.get $size) (i32.sub (i32.const 0x80000) (global.get $heap)))
      (then (return (i32.const 0))))
    (local.set $at (global.get $heap))
    (global.set $heap (i32.add (global.get $heap) (local.get $size)))
    (local.get $at))

  ;; The allocator. Its section may make host calls of its own and say what to return.
  (func $allocate (param $size i32) (result i32)
    (local $callback i32) (local $value i32) (local $given i32)
    (if (global.get $plain) (then (return (call $bump (local.get $size)))))
    (global.set $plain (i32.const 1))
    (local.set $callback (global.get $callback))
    (local.set $value (global.get $value))
    (global.set $callback (i32.const 0))
    (global.set $value (i32.const 1))
    (call $sections)
    (local.set $given (global.get $value))
    (global.set $callback (local.get $callback))
    (global.set $value (local.get $value))
    (global.set $plain (i32.const 0))
    ;; 1 is what no program wants: it means that none was given.
    (if (result i32) (i32.eq (local.get $given) (i32.const 1))
      (then (call $bump (local.get $size)))
      (else (local.get $given))))

  (func $digit (param $at i32) (result i32) (local $c i32)
    (local.set $c (i32.load8_u (local.get $at)))
    (if (result i32) (i32.ge_u (local.get $c) (i32.const 97))
      (then (i32.sub (local.get $c) (i32.const 87)))
      (else (i32.sub (local.get $c) (i32.const 48)))))

  ;; Takes the program from a buffer of the host; false if there is none in it.
  (func $load (param $buffer i32) (result i32)
    (local $text i32) (local $end i32) (local $to i32)
    (global.set $plain (i32.const 1))
    (i32.store (i32.const 24) (i32.const 0))
    (i32.store (i32.const 28) (i32.const 0))
    (drop (call $env.proxy_get_buffer_bytes
      (local.get $buffer) (i32.const 0) (i32.const -1) (i32.const 24) (i32.const 28)))
    (global.set $plain (i32.const 0))
    (local.set $text (i32.load (i32.const 24)))
    (local.set $end (i32.add (local.get $text) (i32.load (i32.const 28))))
    (local.set $to (i32.const 0x10000))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (i32.add (local.get $text) (i32.const 1)) (local.get $end)))
        (br_if $done (i32.ge_u (local.get $to) (i32.const 0x18000)))
        (i32.store8
          (local.get $to)
          (i32.or
            (i32.shl (call $digit (local.get $text)) (i32.const 4))
            (call $digit (i32.add (local.get $text) (i32.const 1)))))
        (local.set $to (i32.add (local.get $to) (i32.const 1)))
        (local.set $text (i32.add (local.get $text) (i32.const 2)))
        (br $next)))
    (if (i32.eq (local.get $to) (i32.const 0x10000)) (then (return (i32.const 0))))
    (global.set $program_end (local.get $to))
    (i32.const 1))

  ;; A callback: loads the program if need be, runs its sections for this callback, gives the value to return.
  (func $run (param $callback i32) (param $value i32) (result i32)
    (if (i32.eqz (global.get $loaded)) (then (global.set $loaded (call $load (i32.const 6)))))
    (if (i32.eqz (global.get $loaded)) (then (global.set $loaded (call $load (i32.const 7)))))
    (global.set $heap (i32.const 0x20000))
    (global.set $answers_end (i32.const 0x8000))
    (global.set $callback (local.get $callback))
    (global.set $value (local.get $value))
    (call $sections)
    (global.get $value))

  (func $sections (local $at i32) (local $end i32)
    (local.set $at (i32.const 0x10000))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $at) (global.get $program_end)))
        (local.set $end (i32.add
          (i32.add (local.get $at) (i32.const 8))
          (i32.shl (i32.load offset=4 (local.get $at)) (i32.const 2))))
        (if
          (i32.or
            (i32.eq (i32.load (local.get $at)) (global.get $callback))
            (i32.and
              (i32.eq (i32.load (local.get $at)) (i32.const -1))
              (i32.ne (global.get $callback) (i32.const 0))))
          (then (call $steps (i32.add (local.get $at) (i32.const 8)) (local.get $end))))
        (local.set $at (local.get $end))
        (br $next))))

  ;; Runs the steps from `at` to `end`.
  (func $steps (param $at i32) (param $end i32)
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $at) (local.get $end)))
        (local.set $at (call $step (local.get $at)))
        (br $next))))

  ;; Runs one step and gives the address of the next.
  (func $step (param $at i32) (result i32) (local $a i32) (local $b i32) (local $c i32)
    (local.set $a (i32.load offset=4 (local.get $at)))
    (local.set $b (i32.load offset=8 (local.get $at)))
    (local.set $c (i32.load offset=12 (local.get $at)))
    (block $skip (block $recurse (block $grow (block $loop (block $trap (block $return
    (block $say_answers (block $say_at (block $say (block $copy (block $poke (block $call
      (br_table $trap $call $poke $copy $say $say_at $say_answers $return $trap $loop $grow $recurse $skip $trap
        (i32.load (local.get $at))))
      ;; call
      (call_indirect (local.get $a))
      (call $keep_answer)
      (return (i32.add (local.get $at) (i32.const 8))))
      ;; poke
      (memory.copy (local.get $a) (i32.add (local.get $at) (i32.const 12)) (local.get $b))
      (return (i32.add
        (i32.add (local.get $at) (i32.const 12))
        (i32.and (i32.add (local.get $b) (i32.const 3)) (i32.const -4)))))
      ;; copy
      (memory.copy (local.get $a) (local.get $b) (local.get $c))
      (return (i32.add (local.get $at) (i32.const 16))))
      ;; say
      (call $say (local.get $a) (local.get $b))
      (return (i32.add (local.get $at) (i32.const 12))))
      ;; say_at
      (call $say (i32.load (local.get $a)) (i32.load offset=4 (local.get $a)))
      (return (i32.add (local.get $at) (i32.const 8))))
      ;; say_answers
      (call $say (i32.const 0x8000) (i32.sub (global.get $answers_end) (i32.const 0x8000)))
      (return (i32.add (local.get $at) (i32.const 4))))
      ;; return
      (global.set $value (local.get $a))
      (return (i32.add (local.get $at) (i32.const 8))))
      ;; trap
      unreachable)
      ;; loop
      (loop $forever (br $forever)))
      ;; grow
      (i32.store (i32.const 0x10) (memory.grow (local.get $a)))
      (call $keep_answer)
      (return (i32.add (local.get $at) (i32.const 8))))
      ;; recurse
      (call $endlessly (i32.const 0)))
    ;; skip
    (i32.add
      (i32.add (local.get $at) (i32.const 12))
      (select
        (i32.const 0)
        (i32.shl (local.get $b) (i32.const 2))
        (i32.eq (i32.load (i32.const 0x10)) (local.get $a)))))

  ;; Uses up the stack. What follows the call keeps it from being a loop.
  (func $endlessly (param $depth i32)
    (call $endlessly (i32.add (local.get $depth) (i32.const 1)))
    (i32.store (i32.const 0x10) (local.get $depth)))

  (func $keep_answer
    (if (i32.ge_u (global.get $answers_end) (i32.const 0xf000)) (then (return)))
    (i32.store (global.get $answers_end) (i32.load (i32.const 0x10)))
    (global.set $answers_end (i32.add (global.get $answers_end) (i32.const 4))))

  ;; Writes the hexadecimal digits of a byte and gives the address after them.
  (func $hex (param $to i32) (param $byte i32) (result i32)
    (i32.store8 (local.get $to)
      (i32.load8_u (i32.add (i32.const 0x1fff0) (i32.shr_u (local.get $byte) (i32.const 4)))))
    (i32.store8 offset=1 (local.get $to)
      (i32.load8_u (i32.add (i32.const 0x1fff0) (i32.and (local.get $byte) (i32.const 15)))))
    (i32.add (local.get $to) (i32.const 2)))
  (data (i32.const 0x1fff0) "0123456789abcdef")

  ;; Logs "any", the callback's number, and bytes: "any 07 68656c6c6f". What is beyond 15,000 bytes is not said.
  (func $say (param $from i32) (param $len i32) (local $to i32) (local $end i32)
    (if (i32.gt_u (local.get $len) (i32.const 15000)) (then (local.set $len (i32.const 15000))))
    (local.set $end (i32.add (local.get $from) (local.get $len)))
    (i32.store (i32.const 0x18000) (i32.const 0x20796e61))
    (local.set $to (call $hex (i32.const 0x18004) (global.get $callback)))
    (i32.store8 (local.get $to) (i32.const 32))
    (local.set $to (i32.add (local.get $to) (i32.const 1)))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $from) (local.get $end)))
        (local.set $to (call $hex (local.get $to) (i32.load8_u (local.get $from))))
        (local.set $from (i32.add (local.get $from) (i32.const 1)))
        (br $next)))
    (drop (call $env.proxy_log
      (i32.const 2) (i32.const 0x18000) (i32.sub (local.get $to) (i32.const 0x18000)))))

  ;; Whether a context is a root: one of its kind has other sections than a stream's.
  (func $is_root (param $context i32) (result i32)
    (if (i32.ge_u (local.get $context) (i32.const 4096)) (then (return (i32.const 0))))
    (i32.load8_u (i32.add (i32.const 0xf000) (local.get $context))))
  (func $create (param $context i32) (param $parent i32) (result i32)
    (i32.eqz (local.get $parent))
    (if (i32.lt_u (local.get $context) (i32.const 4096))
      (then (i32.store8
        (i32.add (i32.const 0xf000) (local.get $context))
        (i32.eqz (local.get $parent))))))

  (func (export "proxy_abi_version_0_2_1"))
  (func (export "malloc") (param i32) (result i32) (call $allocate (local.get 0)))
  ;; EXPORTS
)
