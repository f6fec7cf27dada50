// Answers a share of the requests with a fixed response instead of letting them reach the upstream.

#include <stdbool.h>
#include <unistd.h>

#include "context_map.h"
#include "json.h"
#include "proxy_wasm.h"
#include "text.h"

#define MAX_CONFIGURATION (1 << 20)

// One configuration. The streams made under it point here and copy nothing.
struct root {
    // Freed when the root and the last of its streams are gone.
    uint32_t references;
    uint32_t http_status;
    uint32_t percentage;
    uint64_t random;
    // Lies within the document, where the JSON reader has decoded it.
    const char *body;
    size_t body_size;
    char *document;
};

static struct context_map contexts;

static void root_release(struct root *root) {
    if (--root->references > 0) return;
    free(root->document);
    free(root);
}

// Logs what is wrong with the configuration. Returns false, as the callers do then.
static bool refuse(struct text *message) {
    proxy_log(LOG_ERROR, message->start, message->size);
    return false;
}

static bool refuse_because(const char *problem) {
    char line[160];
    struct text message = TEXT_IN(line);
    text_string(&message, "fault-injection: ");
    text_string(&message, problem);
    return refuse(&message);
}

static bool refuse_at(const char *problem, size_t offset) {
    char line[160];
    struct text message = TEXT_IN(line);
    text_string(&message, "fault-injection: ");
    text_string(&message, problem);
    text_string(&message, ": error at byte ");
    text_number(&message, offset);
    return refuse(&message);
}

// The field as an integer within bounds, or the given default if there is no such field.
static bool integer_field(
    const struct json_value *field, uint32_t least, uint32_t most, uint32_t absent, uint32_t *number) {
    if (field->text == NULL) {
        *number = absent;
        return true;
    }
    return json_unsigned(field, number) && *number >= least && *number <= most;
}

// Reads the document into an empty root, which keeps no part of it if this fails.
static bool parse(struct root *root, char *document, size_t size) {
    if (size == 0) return refuse_because("the configuration is empty");
    if (size > MAX_CONFIGURATION) return refuse_because("the configuration is larger than 1 MiB");

    // Everything is read before anything is judged: what is no JSON is called that.
    struct json json = json_over(document, size);
    struct json_value key, value, http_status = {0}, body = {0}, percentage = {0};
    bool object = json_enter_object(&json);
    if (object) {
        while (json_next_member(&json, &key, &value)) {
            if (json_is(&key, "http_status")) http_status = value;
            if (json_is(&key, "body")) body = value;
            if (json_is(&key, "percentage")) percentage = value;
        }
    } else {
        json_value(&json, &value, JSON_DEPTH);
    }
    if (json_failed(&json) || !json_at_end(&json))
        return refuse_at("the configuration is not JSON", json_offset(&json));
    if (!object) return refuse_because("the configuration must be a JSON object");
    if (http_status.text == NULL) return refuse_because("http_status is required");
    if (!integer_field(&http_status, 200, 999, 0, &root->http_status))
        return refuse_because("http_status must be an integer from 200 to 999");
    if (body.text != NULL && body.kind != JSON_STRING) return refuse_because("body must be a string");
    if (!integer_field(&percentage, 0, 100, 100, &root->percentage))
        return refuse_because("percentage must be an integer from 0 to 100");
    root->body = body.text;
    root->body_size = body.size;

    bool draws = root->percentage > 0 && root->percentage < 100;
    if (draws && getentropy(&root->random, sizeof(root->random)) != 0)
        return refuse_because("the host has no random numbers, which a percentage needs");
    return true;
}

// The next number in 0..100 of the root's own SplitMix64 generator: no call to the host.
static uint32_t draw(struct root *root) {
    uint64_t mixed = root->random += 0x9e3779b97f4a7c15;
    mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9;
    mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111eb;
    // The upper half of the product of a 32-bit fraction and 100.
    return (uint32_t)((mixed >> 32) * 100 >> 32);
}

static bool fires(struct root *root) {
    if (root->percentage == 0 || root->percentage == 100) return root->percentage == 100;
    return draw(root) < root->percentage;
}

EXPORT(proxy_on_context_create)
void on_context_create(uint32_t context, uint32_t parent) {
    struct root *root = parent == 0 ? calloc(1, sizeof(*root)) : context_map_get(&contexts, parent);
    if (root == NULL) __builtin_trap();
    root->references++;
    context_map_put(&contexts, context, root);
}

EXPORT(proxy_on_configure)
uint32_t on_configure(uint32_t context, size_t size) {
    struct root *root = context_map_get(&contexts, context);
    struct root configured = {0};
    char *document = NULL;
    if (root == NULL) return false;
    if (proxy_get_buffer_bytes(BUFFER_PLUGIN_CONFIGURATION, 0, size, &document, &size) != STATUS_OK) size = 0;
    if (!parse(&configured, document, size)) {
        free(document);
        return false;
    }
    // A root that is configured once more lets its streams see the new configuration.
    free(root->document);
    configured.document = document;
    configured.references = root->references;
    *root = configured;
    return true;
}

EXPORT(proxy_on_request_headers)
uint32_t on_request_headers(uint32_t context, uint32_t headers, uint32_t end_of_stream) {
    (void)headers, (void)end_of_stream;
    struct root *root = context_map_get(&contexts, context);
    // Without a configuration there is nothing to answer with: the host should not have let it come here.
    if (root == NULL || root->document == NULL) __builtin_trap();
    if (!fires(root)) return ACTION_CONTINUE;
    proxy_send_local_response(
        root->http_status, NULL, 0, root->body, root->body_size, NULL, 0, NO_GRPC_STATUS);
    return ACTION_PAUSE;
}

EXPORT(proxy_on_delete)
void on_delete(uint32_t context) {
    struct root *root = context_map_remove(&contexts, context);
    if (root != NULL) root_release(root);
}
