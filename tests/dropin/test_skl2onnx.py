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


def test_examples() -> None:
    pytest.importorskip("pandas")
    run(SIMPLE + PIPELINE + MORE)
