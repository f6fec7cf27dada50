package proxywasm

import "unsafe"

// Memory the host has asked for and not yet handed back. The garbage collector would free it otherwise:
// the host's copy of its address is not one the collector knows.
var lent = map[uint32][]byte{}

func address(block []byte) uint32 {
	return uint32(uintptr(unsafe.Pointer(unsafe.SliceData(block))))
}

//go:wasmexport proxy_on_memory_allocate
func allocate(size uint32) uint32 {
	if size == 0 {
		return 0
	}
	block := make([]byte, size)
	lent[address(block)] = block
	return address(block)
}

// Where a host function writes the address and the size of what it returns.
type answer struct {
	at   uint32
	size uint32
}

func (answer *answer) out() (at, size unsafe.Pointer) {
	return unsafe.Pointer(&answer.at), unsafe.Pointer(&answer.size)
}

// The bytes that the host has returned, which are the plugin's from now on.
func (answer *answer) take() []byte {
	block := lent[answer.at]
	delete(lent, answer.at)
	return block[:min(int(answer.size), len(block))]
}

func text(s string) (at unsafe.Pointer, size uint32) {
	return unsafe.Pointer(unsafe.StringData(s)), uint32(len(s))
}

func bytes(b []byte) (at unsafe.Pointer, size uint32) {
	return unsafe.Pointer(unsafe.SliceData(b)), uint32(len(b))
}
