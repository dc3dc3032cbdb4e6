*** Settings ***
Documentation       Reads the invoices of this folder and reports what is due.
Library             invoices

*** Tasks ***
Read Invoices
    ${due}=    Total Due    invoices.yaml
    Print Report    invoices.yaml    ${due}
    Write Report    output/report.json    ${due}
