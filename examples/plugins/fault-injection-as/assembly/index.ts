// Answers a share of the requests with a fixed response instead of letting them reach the upstream.

// A module has to export what its host shall call. The SDK's `proxy` file exports every callback; only
// those with work to do are named here, so that the host saves itself the others for each request.
export { malloc, free } from "@solo-io/proxy-runtime/malloc";
export {
  proxy_abi_version_0_2_0,
  proxy_on_configure,
  proxy_on_request_headers,
  proxy_on_delete,
} from "@solo-io/proxy-runtime/exports";

import { proxy_on_context_create as sdkContextCreate } from "@solo-io/proxy-runtime/exports";
import { proxy_send_local_response } from "@solo-io/proxy-runtime/imports";
import {
  Context,
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

// The SDK traps where no root context is registered under the `plugin_root_id` the host gives. This
// plugin has one kind only: register it under whatever the host calls it.
export function proxy_on_context_create(context: u32, parent: u32): void {
  if (parent == 0) registerRootContext((id: u32): RootContext => new Root(id), pluginRootId());
  sdkContextCreate(context, parent);
}

// One configuration, shared by the streams made under it.
class Fault {
  status: u32;
  body: ArrayBuffer;
  percentage: u32;
  random: Random;

  constructor(settings: Settings, random: Random) {
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

class Root extends RootContext {
  fault: Fault | null = null;

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
    this.fault = new Fault(settings, random);
    return true;
  }

  createContext(id: u32): Context {
    let fault = this.fault;
    if (fault === null) throw new Error("a stream under a root that has no configuration");
    return new Stream(id, this, fault);
  }

  // The SDK's own writes a debug line.
  onDelete(): void {}
}

class Stream extends Context {
  fault: Fault;

  constructor(id: u32, root: Root, fault: Fault) {
    super(id, root);
    this.fault = fault;
  }

  // The import itself, and not the SDK's function around it, which would encode and serialise two empty
  // arguments for every request.
  onRequestHeaders(headers: u32, endOfStream: bool): FilterHeadersStatusValues {
    let fault = this.fault;
    if (!fault.fires()) return FilterHeadersStatusValues.Continue;
    let body = fault.body;
    proxy_send_local_response(
      fault.status, 0, 0, changetype<usize>(body), body.byteLength, 0, 0, NO_GRPC_STATUS);
    return FilterHeadersStatusValues.StopIteration;
  }

  // The SDK's own writes a debug line.
  onDelete(): void {}
}
