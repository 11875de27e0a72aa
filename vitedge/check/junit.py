"""Findings as JUnit XML, which build servers show beside their own tests.

https://github.com/testmoapp/junitxml describes what they have in common.
"""

from __future__ import annotations

from xml.etree import ElementTree

from vitedge.check.rules import Finding, Outcome
from vitedge.terminal.printable import printable


def render_junit(findings: tuple[Finding, ...]) -> str:
    """A test suite with one test case for each check; the target is its class."""
    outcomes = [finding.outcome for finding in findings]
    counts = {
        "name": "vitedge check",
        "tests": str(len(outcomes)),
        "failures": str(outcomes.count(Outcome.FAILED)),
        "skipped": str(outcomes.count(Outcome.SKIPPED)),
        "errors": "0",
    }
    root = ElementTree.Element("testsuites")
    suite = ElementTree.SubElement(root, "testsuite", counts)
    for finding in findings:
        name = {"classname": finding.target, "name": f"{finding.artifact} {finding.kind}"}
        attributes = {key: printable(value) for key, value in name.items()}
        case = ElementTree.SubElement(suite, "testcase", attributes)
        words = printable(finding.words)
        if finding.outcome is Outcome.FAILED:
            ElementTree.SubElement(case, "failure", message=words, type=str(finding.kind))
        elif finding.outcome is Outcome.SKIPPED:
            ElementTree.SubElement(case, "skipped", message=words)
        else:
            ElementTree.SubElement(case, "system-out").text = words
    ElementTree.indent(root)
    text: str = ElementTree.tostring(root, encoding="unicode", xml_declaration=True)
    return f"{text}\n"
