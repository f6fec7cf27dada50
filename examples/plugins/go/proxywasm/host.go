package proxywasm

import "unsafe"

//go:wasmimport env proxy_log
func hostLog(level uint32, text unsafe.Pointer, size uint32) uint32

//go:wasmimport env proxy_get_buffer_bytes
func hostBufferBytes(buffer, start, size uint32, outAt, outSize unsafe.Pointer) uint32

//go:wasmimport env proxy_get_header_map_value
func hostHeader(headers uint32, name unsafe.Pointer, nameSize uint32, outAt, outSize unsafe.Pointer) uint32

//go:wasmimport env proxy_get_property
func hostProperty(path unsafe.Pointer, pathSize uint32, outAt, outSize unsafe.Pointer) uint32

//go:wasmimport env proxy_send_local_response
func hostRespond(
	status uint32, details unsafe.Pointer, detailsSize uint32, body unsafe.Pointer, bodySize uint32,
	headers unsafe.Pointer, headersSize uint32, grpcStatus int32,
) uint32

//go:wasmimport env proxy_http_call
func hostCall(
	upstream unsafe.Pointer, upstreamSize uint32, headers unsafe.Pointer, headersSize uint32,
	body unsafe.Pointer, bodySize uint32, trailers unsafe.Pointer, trailersSize uint32,
	timeout uint32, token unsafe.Pointer,
) uint32

//go:wasmimport env proxy_set_tick_period_milliseconds
func hostTickPeriod(milliseconds uint32) uint32

//go:wasmimport env proxy_register_shared_queue
func hostRegisterQueue(name unsafe.Pointer, nameSize uint32, id unsafe.Pointer) uint32

//go:wasmimport env proxy_enqueue_shared_queue
func hostEnqueue(id uint32, item unsafe.Pointer, size uint32) uint32

//go:wasmimport env proxy_dequeue_shared_queue
func hostDequeue(id uint32, outAt, outSize unsafe.Pointer) uint32

//go:wasmimport env proxy_define_metric
func hostDefineMetric(kind uint32, name unsafe.Pointer, nameSize uint32, id unsafe.Pointer) uint32

//go:wasmimport env proxy_increment_metric
func hostIncrementMetric(id uint32, by int64) uint32

//go:wasmimport env proxy_done
func hostDone() uint32
