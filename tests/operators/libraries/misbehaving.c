// SPDX-License-Identifier: Apache-2.0
// An operator in C that does what it should not, as its attribute says.
#include <bascule/operator_abi.h>
#include <stddef.h>
#include <string.h>

static const bascule_api* api;

static int is(const bascule_node* node, const char* how) {
  const bascule_value* value = api->attribute(node, "how");
  return value != NULL && strcmp(value->strings[0], how) == 0;
}

static int32_t compute(const bascule_operator* self, const void* state, bascule_call* call,
                       bascule_error* error) {
  (void)self, (void)state;
  const bascule_node* node = api->node_of(call);
  const bascule_tensor* x = api->input(call, 0);
  const int64_t negative[2] = {2, -3}, huge[2] = {INT64_MAX / 2, 8}, other[2] = {7, 7};
  if (api->input(call, -1) != NULL || api->input(call, 5) != NULL) return 1;
  if (api->attribute(node, NULL) != NULL || api->attribute(node, "none") != NULL) return 1;
  if (is(node, "fails without a reason")) return 5;
  if (is(node, "no output")) return 0;
  if (is(node, "a negative size")) api->output(call, 0, 1, 2, negative);
  if (is(node, "a huge size")) api->output(call, 0, 1, 2, huge);
  if (is(node, "another shape")) api->output(call, 0, 1, 2, other);
  if (is(node, "no sizes")) api->output(call, 0, 1, 2, NULL);
  if (is(node, "a rank of -1")) api->output(call, 0, 1, -1, x->shape);
  if (is(node, "a rank of 99")) api->output(call, 0, 1, 99, x->shape);
  if (is(node, "type 0")) api->output(call, 0, 0, x->rank, x->shape);
  if (is(node, "type 8")) api->output(call, 0, 8, x->rank, x->shape);
  if (is(node, "type 77")) api->output(call, 0, 77, x->rank, x->shape);
  if (is(node, "another type")) api->output(call, 0, 7, x->rank, x->shape);
  if (is(node, "output 3")) api->output(call, 3, 1, x->rank, x->shape);
  if (is(node, "output -1")) api->output(call, -1, 1, x->rank, x->shape);
  if (is(node, "twice")) {
    api->output(call, 0, 1, x->rank, x->shape);
    api->output(call, 0, 1, x->rank, x->shape);
  }
  int64_t length = 0;
  if (is(node, "strings of numbers")) api->get_string(call, 0, 0, &length);
  if (is(node, "strings of no input")) api->get_string(call, 4, 0, &length);
  if (is(node, "strings of no output")) api->set_string(call, 0, 0, "x", 1);
  if (is(node, "strings for numbers")) {
    api->output(call, 0, 1, x->rank, x->shape);
    api->set_string(call, 0, 0, "x", 1);
  }
  if (is(node, "a negative loop")) api->parallel_for(call, -1, 1.0, NULL, NULL);
  if (is(node, "a loop without a body")) api->parallel_for(call, 10, 1.0, NULL, NULL);
  if (is(node, "negative memory")) api->workspace(call, -1);
  if (is(node, "a long reason")) {
    static char text[100000];
    memset(text, 'x', sizeof(text));
    api->set_error(error, text, sizeof(text));
    return 1;
  }
  if (is(node, "types of a run")) {
    // What is for rules only.
    api->set_output_type((bascule_node*)node, 0, 1, -1, NULL);
    return 1;
  }
  if (is(node, "well")) {
    const bascule_tensor* y = api->output(call, 0, 1, x->rank, x->shape);
    if (y == NULL) return 1;
    memcpy(y->data, x->data, (size_t)(x->shape[0] * x->shape[1]) * sizeof(float));
  }
  return 0;
}

static int32_t infer(const bascule_operator* self, bascule_node* node, bascule_error* error) {
  (void)self, (void)error;
  const int64_t wrong[2] = {2, -7}, known[1] = {3};
  if (is(node, "rule: a size")) api->set_output_type(node, 0, 1, 2, wrong);
  if (is(node, "rule: a type")) api->set_output_type(node, 0, 99, -1, NULL);
  if (is(node, "rule: a rank")) api->set_output_type(node, 0, 1, 40, known);
  if (is(node, "rule: no sizes")) api->set_output_type(node, 0, 1, 2, NULL);
  if (is(node, "rule: an output")) api->set_output_type(node, 2, 1, 1, known);
  if (is(node, "rule: fails")) return 1;
  return 0;
}

static bascule_attribute how = {sizeof(bascule_attribute), BASCULE_STRING, "how", NULL, 1};
static bascule_parameter x = {sizeof(bascule_parameter), 0, "x", 1u << 1, -1};
static bascule_parameter y = {sizeof(bascule_parameter), 0, "y", 0, -1};
static const bascule_parameter *inputs[] = {&x}, *outputs[] = {&y};
static const bascule_attribute* attributes[] = {&how};
static bascule_operator op = {sizeof(bascule_operator),
                              1,
                              "test",
                              "Misbehaving",
                              NULL,
                              1,
                              1,
                              1,
                              inputs,
                              outputs,
                              attributes,
                              infer,
                              NULL,
                              NULL,
                              compute};
static const bascule_operator* operators[] = {&op};
static bascule_library library = {sizeof(bascule_library), BASCULE_ABI, NULL, 1, operators};

BASCULE_EXPORT const bascule_library* bascule_operator_library(const bascule_api* offered,
                                                               bascule_error* error) {
  (void)error;
  api = offered;
  return &library;
}
