# SPDX-License-Identifier: Apache-2.0
"""skl2onnx: the examples of its documentation, and its helpers that run models."""

from __future__ import annotations

import pytest

from tests.dropin.alias import run

pytest.importorskip("skl2onnx")

# https://onnx.ai/sklearn-onnx/ : "a very simple example", the pipeline with a ColumnTransformer,
# probabilities as arrays (zipmap), intermediate results, TfIdf on text, Gaussian processes.
SIMPLE = """
import numpy as np
from sklearn.datasets import load_iris
from sklearn.model_selection import train_test_split
from sklearn.ensemble import RandomForestClassifier
from skl2onnx import to_onnx, convert_sklearn
from skl2onnx.common.data_types import FloatTensorType
import onnxruntime as rt

iris = load_iris()
X, y = iris.data.astype(np.float32), iris.target
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
clr = RandomForestClassifier(n_estimators=10, random_state=0).fit(X_train, y_train)
onx = convert_sklearn(clr, initial_types=[("float_input", FloatTensorType([None, 4]))])
sess = rt.InferenceSession(onx.SerializeToString(), providers=["CPUExecutionProvider"])
input_name = sess.get_inputs()[0].name
label_name = sess.get_outputs()[0].name
label, probabilities = sess.run([label_name, sess.get_outputs()[1].name], {input_name: X_test})
np.testing.assert_array_equal(label, clr.predict(X_test))
found = np.array([[row[k] for k in clr.classes_] for row in probabilities])
np.testing.assert_allclose(found, clr.predict_proba(X_test), atol=1e-6)

onx = to_onnx(clr, X_train[:1], options={"zipmap": False})
sess = rt.InferenceSession(onx.SerializeToString(), providers=["CPUExecutionProvider"])
np.testing.assert_allclose(sess.run(None, {"X": X_test})[1], clr.predict_proba(X_test), atol=1e-6)
try:
    sess.run(None, {"X": X_test.astype(np.float64)})
except Exception as error:  # as the documentation on errors shows
    assert "Unexpected input data type" in str(error)
"""

PIPELINE = """
import numpy as np, pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from skl2onnx import to_onnx
from skl2onnx.helpers import collect_intermediate_steps
from skl2onnx.helpers.onnx_helper import select_model_inputs_outputs
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
import onnxruntime as rt

CPU = ["CPUExecutionProvider"]
data = pd.DataFrame(
    {"age": [22.0, 38, 26, np.nan], "fare": [7.25, 71, 8, 9], "sex": ["m", "f", "f", "m"]}
)
y = np.array([0, 1, 1, 0])
numeric = Pipeline([("imputer", SimpleImputer(strategy="median")), ("scaler", StandardScaler())])
prepare = ColumnTransformer([("num", numeric, ["age", "fare"]), ("cat", OneHotEncoder(), ["sex"])])
model = Pipeline([("prepare", prepare), ("classifier", LogisticRegression())]).fit(data, y)
types = [("age", FloatTensorType([None, 1])), ("fare", FloatTensorType([None, 1]))]
types += [("sex", StringTensorType([None, 1]))]
onx = to_onnx(model, initial_types=types, options={id(model): {"zipmap": False}})
feeds = {name: data[[name]].to_numpy() for name in data}
feeds = {k: v if k == "sex" else v.astype(np.float32) for k, v in feeds.items()}
sess = rt.InferenceSession(onx.SerializeToString(), providers=["CPUExecutionProvider"])
label, probability = sess.run(None, feeds)
np.testing.assert_array_equal(label, model.predict(data))
np.testing.assert_allclose(probability, model.predict_proba(data), atol=1e-5)

X = np.array([[0, 1], [2, 3], [4, 1]], np.float32)
steps = Pipeline([("scaler1", StandardScaler()), ("scaler2", StandardScaler())]).fit(X)
for step in collect_intermediate_steps(steps, "step", [("input", FloatTensorType([None, 2]))]):
    made = rt.InferenceSession(step["onnx_step"].SerializeToString(), providers=CPU)
    assert np.isfinite(made.run(None, {made.get_inputs()[0].name: X})[0]).all()
onx = to_onnx(steps, X)
for name in [o for n in onx.graph.node for o in n.output]:
    part = select_model_inputs_outputs(onx, name)
    made = rt.InferenceSession(part.SerializeToString(), providers=["CPUExecutionProvider"])
    assert made.run(None, {"X": X})[0].shape == X.shape
"""

MORE = """
import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, DotProduct
from sklearn.neighbors import KNeighborsRegressor
from sklearn.cluster import KMeans
from sklearn.svm import SVC
from sklearn.decomposition import PCA
from skl2onnx import to_onnx
from skl2onnx.common.data_types import StringTensorType
import onnxruntime as rt

def run(model, X, types=None, **kw):
    onx = to_onnx(model, None if types else X[:1], initial_types=types, **kw)
    sess = rt.InferenceSession(onx.SerializeToString(), providers=["CPUExecutionProvider"])
    return sess.run(None, {sess.get_inputs()[0].name: X})

rng = np.random.RandomState(0)
X = rng.randn(40, 3); y = X @ [1.0, 2, 3]
gp = GaussianProcessRegressor(DotProduct() + RBF(), alpha=1.0).fit(X, y)
np.testing.assert_allclose(run(gp, X)[0].ravel(), gp.predict(X), atol=1e-6)
X = X.astype(np.float32)
knn = KNeighborsRegressor(n_neighbors=3).fit(X, y)
np.testing.assert_allclose(run(knn, X)[0].ravel(), knn.predict(X), atol=1e-4)
km = KMeans(3, n_init=2, random_state=0).fit(X)
np.testing.assert_array_equal(run(km, X)[0], km.predict(X))
svc = SVC().fit(X, y > 0)
np.testing.assert_array_equal(run(svc, X)[0], svc.predict(X))
pca = PCA(2).fit(X)
np.testing.assert_allclose(run(pca, X)[0], pca.transform(X), atol=1e-5)
text = ["This is a first document", "and this the second one", "first and second"]
tfidf = TfidfVectorizer().fit(text)
found = run(tfidf, np.array(text).reshape(-1, 1), [("text", StringTensorType([None, 1]))])[0]
np.testing.assert_allclose(found, tfidf.transform(text).toarray(), atol=1e-6)
"""


# Options of converters, decision paths, models of models, floats and doubles, metadata.
OPTIONS = """
import numpy as np
from sklearn.datasets import load_diabetes, load_iris
from sklearn.ensemble import (
    GradientBoostingRegressor, RandomForestClassifier, RandomForestRegressor, VotingRegressor,
)
from sklearn.linear_model import LinearRegression, LogisticRegression
from skl2onnx import to_onnx
import onnxruntime as rt

CPU = ["CPUExecutionProvider"]
iris = load_iris()
X, y = iris.data.astype(np.float32), iris.target

def session(onx):
    return rt.InferenceSession(onx.SerializeToString(), providers=CPU)

# Converters with options: columns, scores, paths.
model = LogisticRegression(max_iter=500).fit(X, y)
made = session(to_onnx(model, X[:1], options={"zipmap": "columns"}))
assert [o.name for o in made.get_outputs()] == ["output_label", "i0", "i1", "i2"]
found = np.stack(made.run(None, {"X": X})[1:], axis=1)
np.testing.assert_allclose(found, model.predict_proba(X), atol=1e-5)
made = session(to_onnx(model, X[:1], options={"zipmap": False, "raw_scores": True}))
np.testing.assert_allclose(made.run(None, {"X": X})[1], model.decision_function(X), atol=1e-4)
forest = RandomForestClassifier(n_estimators=3, max_depth=3, random_state=0).fit(X, y)
options = {"zipmap": False, "decision_path": True, "decision_leaf": True}
made = session(to_onnx(forest, X[:1], options={id(forest): options}, target_opset=17))
results = made.run(None, {"X": X[:10]})
want = forest.decision_path(X[:10])[0].todense()
text = ["".join(row) for row in results[2].tolist()]
assert text == ["".join(map(str, row)) for row in np.asarray(want).tolist()]
np.testing.assert_array_equal(results[3], forest.apply(X[:10]))

# A model of models, floats and doubles.
X, y = load_diabetes(return_X_y=True)
parts = [
    ("gb", GradientBoostingRegressor(random_state=1, n_estimators=5)),
    ("rf", RandomForestRegressor(random_state=1, n_estimators=5)),
    ("lr", LinearRegression()),
]
voting = VotingRegressor(parts).fit(X, y)
linear = LinearRegression().fit(X, y)
for model, dtype, limit in ((voting, np.float32, 1e-3), (linear, np.float64, 1e-12)):
    made = session(to_onnx(model, X[:1].astype(dtype), target_opset=17))
    found = made.run(None, {"X": X.astype(dtype)})[0].ravel()
    assert np.median(np.abs(found - model.predict(X)) / np.abs(model.predict(X))) < limit
meta = made.get_modelmeta()
assert meta.producer_name == "skl2onnx" and meta.domain == "ai.onnx"
"""

# A converter of one's own, and graphs of operators.
CUSTOM = """
import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skl2onnx import to_onnx, update_registered_converter
from skl2onnx.algebra.onnx_ops import OnnxAdd, OnnxArrayFeatureExtractor, OnnxMatMul, OnnxSub
from skl2onnx.common.data_types import FloatTensorType, guess_numpy_type
import onnxruntime as rt

CPU = ["CPUExecutionProvider"]

class Decorrelate(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        self.mean_ = X.mean(axis=0)
        values, vectors = np.linalg.eigh(np.cov(X.T))
        self.coef_ = vectors @ np.diag(values ** -0.5) @ vectors.T
        return self
    def transform(self, X):
        return (X - self.mean_) @ self.coef_

def shape(operator):
    n = operator.inputs[0].type.shape[0]
    columns = operator.raw_operator.coef_.shape[1]
    operator.outputs[0].type = operator.inputs[0].type.__class__([n, columns])

def converter(scope, operator, container):
    model, given = operator.raw_operator, operator.inputs[0]
    dtype, opset = guess_numpy_type(given.type), container.target_opset
    centered = OnnxSub(given, model.mean_.astype(dtype), op_version=opset)
    node = OnnxMatMul(
        centered, model.coef_.astype(dtype), op_version=opset, output_names=operator.outputs[:1]
    )
    node.add_to(scope, container)

update_registered_converter(Decorrelate, "OwnDecorrelate", shape, converter)
X = np.random.RandomState(0).randn(50, 3).astype(np.float32)
X[:, 2] += X[:, 0]
model = make_pipeline(StandardScaler(), Decorrelate()).fit(X)
onx = to_onnx(model, X[:1])
found = rt.InferenceSession(onx.SerializeToString(), providers=CPU).run(None, {"X": X})[0]
np.testing.assert_allclose(found, model.transform(X), atol=1e-4)
np.testing.assert_allclose(np.cov(found.T), np.eye(3), atol=1e-4)

# A graph of operators.
node = OnnxAdd("X", np.array([1.0], np.float32), op_version=15, output_names=["Y"])
onx = node.to_onnx({"X": X}, outputs=[("Y", FloatTensorType())])
found = rt.InferenceSession(onx.SerializeToString(), providers=CPU).run(None, {"X": X})[0]
np.testing.assert_allclose(found, X + 1)
picked = OnnxArrayFeatureExtractor(
    "X", np.array([0, 2], np.int64), op_version=1, output_names=["Y"]
)
onx = picked.to_onnx({"X": X}, outputs=[("Y", FloatTensorType())])
found = rt.InferenceSession(onx.SerializeToString(), providers=CPU).run(None, {"X": X})[0]
np.testing.assert_array_equal(found, X[:, [0, 2]])
"""

# Another library's model in a pipeline.
BOOSTING = """
import numpy as np
from lightgbm import LGBMClassifier
from sklearn.datasets import load_iris
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from skl2onnx import to_onnx, update_registered_converter
from skl2onnx.common.shape_calculator import calculate_linear_classifier_output_shapes
from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm
import onnxruntime as rt

iris = load_iris()
X, y = iris.data.astype(np.float32), iris.target
update_registered_converter(
    LGBMClassifier, "LightGbmLGBMClassifier", calculate_linear_classifier_output_shapes,
    convert_lightgbm, options={"nocl": [True, False], "zipmap": [True, False, "columns"]},
)
model = LGBMClassifier(n_estimators=3, n_jobs=1, verbose=-1)
model = Pipeline([("scaler", StandardScaler()), ("lgbm", model)]).fit(X, y)
onx = to_onnx(model, X[:1], target_opset={"": 15, "ai.onnx.ml": 2}, options={"lgbm__zipmap": False})
made = rt.InferenceSession(onx.SerializeToString(), providers=["CPUExecutionProvider"])
label, probability = made.run(None, {"X": X})
np.testing.assert_array_equal(label, model.predict(X))
np.testing.assert_allclose(probability, model.predict_proba(X), atol=1e-5)
"""


def test_examples() -> None:
    pytest.importorskip("pandas")
    run(SIMPLE + PIPELINE + MORE)


def test_options() -> None:
    run(OPTIONS)


def test_custom_converters() -> None:
    run(CUSTOM)


def test_boosting() -> None:
    pytest.importorskip("lightgbm")
    pytest.importorskip("onnxmltools")
    run(BOOSTING)
