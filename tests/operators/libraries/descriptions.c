// SPDX-License-Identifier: Apache-2.0
// A library in C whose description is wrong in the way that an environment variable says.
#include <bascule/operator_abi.h>
#include <stdlib.h>
#include <string.h>

static int32_t compute(const bascule_operator* self, const void* state, bascule_call* call,
                       bascule_error* error) {
  (void)self, (void)state, (void)call, (void)error;
  return 1;
}

static const int64_t one = 1;
static bascule_value value = {BASCULE_INT, 1, NULL, &one, NULL, NULL, NULL};
static bascule_attribute attribute = {sizeof(bascule_attribute), BASCULE_INT, "k", &value, 0};
static bascule_parameter x = {sizeof(bascule_parameter), 0, "x", 0, -1};
static bascule_parameter y = {sizeof(bascule_parameter), 0, "y", 0, 0};
static const bascule_parameter *inputs[2] = {&x, &x}, *outputs[1] = {&y};
static const bascule_attribute* attributes[2] = {&attribute, &attribute};
static bascule_operator op = {sizeof(bascule_operator),
                              1,
                              "wrong",
                              "Op",
                              NULL,
                              1,
                              1,
                              1,
                              inputs,
                              outputs,
                              attributes,
                              NULL,
                              NULL,
                              NULL,
                              compute};
static const bascule_operator* operators[2] = {&op, &op};
static bascule_library library = {sizeof(bascule_library), BASCULE_ABI, NULL, 1, operators};

BASCULE_EXPORT const bascule_library* bascule_operator_library(const bascule_api* api,
                                                               bascule_error* error) {
  const char* how = getenv("BASCULE_TEST_DESCRIPTION");
  const char* reason = "it does not like this bascule";
#define WHEN(name) if (strcmp(how, name) == 0)
  WHEN("nothing") return NULL;
  WHEN("a reason") {
    api->set_error(error, reason, strlen(reason));
    return NULL;
  }
  WHEN("a newer version") library.abi = BASCULE_ABI + 1;
  WHEN("another major version") library.abi = BASCULE_ABI + 0x10000;
  WHEN("a small library") library.size = 4;
  WHEN("a negative count") library.operator_count = -1;
  WHEN("no list") library.operators = NULL;
  WHEN("no operator") operators[0] = NULL;
  WHEN("a small operator") op.size = 8;
  WHEN("no domain") op.domain = NULL;
  WHEN("an empty name") op.name = "";
  WHEN("since 0") op.since = 0;
  WHEN("no compute") op.compute = NULL;
  WHEN("many inputs") op.input_count = 1000000;
  WHEN("no input") inputs[0] = NULL;
  WHEN("a small input") x.size = 1;
  WHEN("no name") x.name = NULL;
  WHEN("a variadic input before others") {
    x.flags = BASCULE_VARIADIC;
    op.input_count = 2;
  }
  WHEN("no type") x.dtypes = 1u;
  WHEN("same as itself") x.same_as = 0;
  WHEN("same as none") y.same_as = 3;
  WHEN("a graph") attribute.kind = 5;
  WHEN("another default") value.kind = BASCULE_FLOAT;
  WHEN("no default") value.ints = NULL;
  WHEN("two defaults") value.count = 2;
  WHEN("one attribute twice") op.attribute_count = 2;
  WHEN("one operator twice") library.operator_count = 2;
  WHEN("grown") { library.size = op.size = x.size = y.size = attribute.size = 4096; }
  WHEN("the standard's domain") op.domain = "com.microsoft";
  return &library;
}
