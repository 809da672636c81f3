"""Student's t as a loss of genkit."""

from genkit.hookspecs import hookimpl, lazy

GENKIT_API = 1


@hookimpl
def genkit_loss():
    summary = "Student's t: the mean of (nu + 1) / 2 log(1 + (x - y)^2 / (nu s^2)) over dimensions."
    return {"student-t": lazy("genkit_student_t.loss:StudentTLoss", summary)}


@hookimpl
def genkit_recipes():
    return "genkit_student_t.recipes"
