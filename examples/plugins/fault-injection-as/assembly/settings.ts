// The plugin's configuration, checked.

import { JSON_DEPTH, Json, JsonKind, JsonValue } from "./json";

const MAX_CONFIGURATION: usize = 1 << 20;

export class Settings {
  httpStatus: u32 = 0;
  percentage: u32 = 100;
  body: ArrayBuffer = new ArrayBuffer(0);

  // Reads the document, in which strings are decoded in place, and keeps no part of it. Returns what is
  // wrong with it, for whoever wrote it, or an empty string.
  parse(document: usize, size: usize): string {
    if (size == 0) return "the configuration is empty";
    if (size > MAX_CONFIGURATION) return "the configuration is larger than 1 MiB";

    // Everything is read before anything is judged: what is no JSON is called that.
    let json = new Json(document, size);
    let key = new JsonValue();
    let value = new JsonValue();
    let httpStatus: JsonValue | null = null;
    let body: JsonValue | null = null;
    let percentage: JsonValue | null = null;
    let object = json.enterObject();
    if (object) {
      while (json.nextMember(key, value)) {
        let known = true;
        if (key.is("http_status")) httpStatus = value;
        else if (key.is("body")) body = value;
        else if (key.is("percentage")) percentage = value;
        else known = false;
        if (known) value = new JsonValue();
      }
    } else {
      json.value(value, JSON_DEPTH);
    }
    if (json.failed || !json.atEnd()) {
      return "the configuration is not JSON: error at byte " + json.offset().toString();
    }
    if (!object) return "the configuration must be a JSON object";

    if (httpStatus === null) return "http_status is required";
    let number = httpStatus.unsigned();
    if (number < 200 || number > 999) return "http_status must be an integer from 200 to 999";
    this.httpStatus = <u32>number;

    if (body !== null) {
      if (body.kind != JsonKind.String) return "body must be a string";
      this.body = new ArrayBuffer(<i32>body.size);
      memory.copy(changetype<usize>(this.body), body.at, body.size);
    }

    if (percentage !== null) {
      number = percentage.unsigned();
      if (number < 0 || number > 100) return "percentage must be an integer from 0 to 100";
      this.percentage = <u32>number;
    }
    return "";
  }
}
