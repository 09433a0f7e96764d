"""Statements by name: PTB-XL's, CPSC2018's, and what stands for them."""

import csv

import numpy as np
import pytest

from diffgraft.ecg.statements import CPSC, NINE, STATEMENTS, cpsc_statement, multi_hot, statement
from diffgraft.errors import BadData


def test_statements_are_71_in_the_order_of_the_alphabet():
    assert len(STATEMENTS) == len(set(STATEMENTS)) == 71
    assert list(STATEMENTS) == sorted(STATEMENTS)


def test_statements_are_those_of_the_data_set(data_folder):
    with open(data_folder / "ptbxl" / "scp_statements.csv", newline="") as file:
        assert sorted(row[""] for row in csv.DictReader(file)) == list(STATEMENTS)


def test_classes_of_cpsc_stand_where_the_statements_are():
    assert NINE == ("NORM", "AFIB", "1AVB", "CLBBB", "CRBBB", "PAC", "PVC", "STD_", "STE_")
    assert [STATEMENTS.index(name) for name in NINE] == [46, 4, 0, 11, 12, 49, 54, 63, 64]
    assert [cpsc_statement(str(k)) for k in range(1, 10)] == list(NINE)
    assert [one.code for one in CPSC] == list(range(1, 10))


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("VPC", "PVC"),
        ("PVC", "PVC"),
        ("vpc", "PVC"),
        ("Normal", "NORM"),
        ("AF", "AFIB"),
        ("I-AVB", "1AVB"),
        ("IAVB", "1AVB"),
        ("LBBB", "CLBBB"),
        ("RBBB", "CRBBB"),
        ("STD", "STD_"),
        ("STE", "STE_"),
        (" PAC ", "PAC"),
        ("164909002", "CLBBB"),
        ("713427006", "CRBBB"),
        ("59118001", "CRBBB"),
        ("17338001", "PVC"),
        ("LAO/LAE", "LAO/LAE"),
    ],
)
def test_names_that_stand_for_a_statement(name, wanted):
    assert statement(name) == wanted


def test_every_statement_and_class_stands_for_itself():
    assert tuple(map(statement, STATEMENTS)) == STATEMENTS
    for one in CPSC:
        assert {statement(name) for name in (one.name, one.scp, *one.snomed, *one.synonyms)} == {one.scp}


def test_rows_of_labels():
    y = multi_hot([("VPC", "AF"), (), None, ("SR", "NORM", "NORM")], NINE)
    assert y.dtype == np.float32 and y.tolist() == [[0, 1, 0, 0, 0, 0, 1, 0, 0], [0] * 9, [-1] * 9, [1, *[0] * 8]]
    assert multi_hot([NINE]).nonzero()[1].tolist() == sorted([46, 4, 0, 11, 12, 49, 54, 63, 64])
    assert multi_hot([("PVC",)], ("VPC", "NORM")).tolist() == [[1, 0]]
    assert multi_hot([]).shape == (0, 71)


@pytest.mark.parametrize(
    ("do", "says"),
    [
        (lambda: statement("NORMM"), "unknown statement 'NORMM'; did you mean 'NORM'"),
        (lambda: statement("424242424"), "unknown statement '424242424'; statements are those of"),
        (lambda: multi_hot([("AFIBB",)]), "did you mean 'AFIB'"),
        (lambda: multi_hot([], ("PVC", "VPC")), "expected 2 distinct classes, got 1; name each once, VPC is PVC"),
        (lambda: cpsc_statement("10"), "expected a class of CPSC2018 from 1 to 9, got '10'"),
    ],
)
def test_names_that_stand_for_none(do, says):
    with pytest.raises(BadData, match=says) as error:
        do()
    assert len(str(error.value)) < 200
