// Answers a share of the requests with a fixed response instead of letting them reach the upstream.
//
// The SDK starts the plugin, keeps its root contexts and has it configured. The streams are kept here: the
// SDK formats and logs seven lines for each one it creates, at whatever level the host logs, and never
// frees it, because every cast in its callbacks leaves a reference counted that nobody holds.

// A module has to export what its host shall call. The SDK's `proxy` file exports every callback; only
// those with work to do are exported here, so that the host saves itself the others for each request.
export { malloc, free } from "@solo-io/proxy-runtime/malloc";
export { proxy_abi_version_0_2_0, proxy_on_configure } from "@solo-io/proxy-runtime/exports";

import {
  proxy_on_context_create as createInSdk,
  proxy_on_delete as deleteInSdk,
} from "@solo-io/proxy-runtime/exports";
import { proxy_send_local_response } from "@solo-io/proxy-runtime/imports";
import {
  FilterHeadersStatusValues,
  LogLevelValues,
  RootContext,
  log,
  registerRootContext,
} from "@solo-io/proxy-runtime";

import { pluginConfiguration, pluginRootId, release } from "./host";
import { Random } from "./random";
import { Settings } from "./settings";

const NO_GRPC_STATUS: u32 = -1;

// One configuration. The streams made under it share it.
class Fault {
  root: u32;
  status: u32;
  body: ArrayBuffer;
  percentage: u32;
  random: Random;

  constructor(root: u32, settings: Settings, random: Random) {
    this.root = root;
    this.status = settings.httpStatus;
    this.body = settings.body;
    this.percentage = settings.percentage;
    this.random = random;
  }

  fires(): bool {
    if (this.percentage == 0 || this.percentage == 100) return this.percentage == 100;
    return this.random.below(100) < this.percentage;
  }
}

// What each live context works with, be it a configured root or a stream under one.
const faults = new Map<u32, Fault>();

class Root extends RootContext {
  constructor(id: u32) {
    super(id);
  }

  onConfigure(size: u32): bool {
    let document = pluginConfiguration(size);
    let settings = new Settings();
    let problem = settings.parse(document.at, document.size);
    release(document);

    let random = new Random();
    let draws = settings.percentage > 0 && settings.percentage < 100;
    if (problem.length == 0 && draws && !random.seed()) {
      problem = "the host has no random numbers, which a percentage needs";
    }
    if (problem.length > 0) {
      log(LogLevelValues.error, "fault-injection: " + problem);
      return false;
    }
    faults.set(this.context_id, new Fault(this.context_id, settings, random));
    return true;
  }

  // The SDK's own logs that it was called.
  onDelete(): void {}
}

export function proxy_on_context_create(context: u32, parent: u32): void {
  if (parent != 0) {
    if (!faults.has(parent)) throw new Error("a stream under a root that has no configuration");
    faults.set(context, faults.get(parent));
    return;
  }
  // The SDK traps where no root context is registered under the `plugin_root_id` the host gives. There is
  // but one kind here: register it under whatever the host calls it.
  registerRootContext((id: u32): RootContext => new Root(id), pluginRootId());
  createInSdk(context, parent);
}

// Calls the import itself, and not the SDK's function around it, which would encode and serialise two
// empty arguments each time.
export function proxy_on_request_headers(context: u32, headers: u32, endOfStream: u32): i32 {
  let fault = faults.get(context);
  if (!fault.fires()) return FilterHeadersStatusValues.Continue;
  let body = fault.body;
  proxy_send_local_response(
    fault.status, 0, 0, changetype<usize>(body), body.byteLength, 0, 0, NO_GRPC_STATUS);
  return FilterHeadersStatusValues.StopIteration;
}

export function proxy_on_delete(context: u32): void {
  let stream = faults.has(context) && faults.get(context).root != context;
  faults.delete(context);
  if (!stream) deleteInSdk(context);
}
